/** What an agent is told of its machine, and what it has done there. */
import type { LocalProvider, Offer } from '../shared/frames.ts'
import type { PolicyView } from '../shared/policy.ts'
import type { Clock } from './clock.ts'
import type { ConfigFiles } from './config-files.ts'
import type { Prepared } from './held-run.ts'

export interface AgentOptions {
  readonly clock: Clock
  readonly spoolDir: string
  readonly slots: number
  readonly labels: Record<string, string>
  readonly provider: LocalProvider | null
  /** What of the owner's policy the router is told. */
  readonly policy?: PolicyView | undefined
  /** Keeps what the router sends for the CLI; absent: it is told that nothing does. */
  readonly config?: Pick<ConfigFiles, 'take'> | undefined
  readonly cliVersion: string | null
  readonly os: string
  /** Checks the offer against the owner's policy and gets a CLI ready. Throws a `Fault` that says what is wrong. */
  prepare(offer: Offer, marker: string, signal: AbortSignal): Promise<Prepared>
  /** Kills whatever carries the marker of a process of an earlier boot. */
  sweep(marker: string): Promise<number>
  diskFree(): number
  load(): number
  log(message: string, fields: Record<string, unknown>): void
}
