/** What of its machine a runner has for its CLIs. */
import type { ConfigFiles } from './config-files.ts'
import type { Treasury } from './funds.ts'
import type { Gateway } from './gateway/gateway.ts'
import type { InUse } from './in-use.ts'
import type { Policy } from './policy.ts'
import type { Sandbox } from './sandbox.ts'
import type { WarmPool } from './warm/pool.ts'
import type { WarmRecords } from './warm/record.ts'

export interface Machine {
  readonly sandbox: Sandbox
  readonly policy: Policy
  /** Absolute and real. */
  readonly roots: readonly string[]
  /** The runner's own folders, which no run opens. Real paths. */
  readonly closed: readonly string[]
  readonly inUse: InUse
  /** Config directories of the CLI live here, one for each tenant. */
  readonly configRoot: string
  /** What the pool has for the CLI. */
  readonly config: Pick<ConfigFiles, 'files'>
  /** Folders of single processes, for files that must not be in argv. */
  readonly privateRoot: string
  readonly treasury: Omit<Treasury, 'allowPrivateBaseUrls' | 'log'>
  readonly gateway: Gateway
  /** Processes that outlive their turn. */
  readonly warm: WarmPool
  readonly records: Pick<WarmRecords, 'write' | 'remove'>
  readonly env: NodeJS.ProcessEnv
  readonly home: string
  log(message: string, fields: Record<string, unknown>): void
}
