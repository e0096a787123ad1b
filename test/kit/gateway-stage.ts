/** The runner's way from an offer to the end of its turn, with the real CLI and without a router: keys are sealed here. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CompactEncrypt, generateKeyPair } from 'jose'
import type { TurnEnd } from '../../runner/cli-process.ts'
import { systemClock } from '../../runner/clock.ts'
import { startGateway, type Gateway } from '../../runner/gateway/gateway.ts'
import type { Prepared } from '../../runner/held-run.ts'
import { linesIn } from '../../shared/lines.ts'
import { InUse } from '../../runner/in-use.ts'
import type { LocalLogin } from '../../runner/login.ts'
import { Policy } from '../../runner/policy.ts'
import { preparer } from '../../runner/prepare.ts'
import { detect } from '../../runner/sandbox.ts'
import { memoryOf } from '../../runner/warm/memory.ts'
import { WarmPool, type WarmView } from '../../runner/warm/pool.ts'
import { WarmRecords } from '../../runner/warm/record.ts'
import { SEALED_KEY_TYP, type Grant, type Grants, type ProviderReport } from '../../shared/grants.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { CLAUDE } from '../model/claude.ts'

export type Line = { type: string; subtype?: string; event?: unknown; [key: string]: unknown }

export interface Provider {
  readonly id: string
  readonly url: string
  readonly key?: string
  readonly grant?: Partial<Grant>
}

export interface Stage {
  readonly dir: string
  readonly gateway: Gateway
  /** Of requests that are over. */
  readonly reports: readonly ProviderReport[]
  /** What waits for a turn. */
  readonly waiting: () => WarmView
  /** Everything that was logged, as text. */
  readonly log: () => string
  prepare(providers: readonly Provider[], spec?: Partial<RunSpec>, grants?: Partial<Grants>): Promise<Prepared>
  /** From the offer to the end of the turn; nothing of it is left then. */
  run(providers: readonly Provider[], spec?: Partial<RunSpec>, grants?: Partial<Grants>): Promise<TurnEnd & { readonly lines: readonly Line[] }>
  close(): Promise<void>
}

export interface StageOptions {
  /** How long a process waits for another turn; 0, the default: none does. */
  readonly warmIdleS?: number
  /** The most of one configuration; 0 unless it is said. */
  readonly spares?: number
  /** Another program than the real CLI. */
  readonly claude?: string
  /** Of `env`, what a CLI is given. */
  readonly envAllow?: readonly string[]
  readonly allowPrivate?: boolean
  readonly login?: LocalLogin
  /** Of the runner, besides PATH and HOME. */
  readonly env?: Readonly<Record<string, string>>
}

export async function gatewayStage(options: StageOptions = {}): Promise<Stage> {
  const { warmIdleS = 0, spares = 0, claude = CLAUDE, envAllow = [], allowPrivate = true, login = { kind: 'none' }, env: extra = {} } = options
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'runyard-gateway-')))
  const { publicKey, privateKey } = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
  const env = { PATH: process.env['PATH'], HOME: dir, ...extra }
  const reports: ProviderReport[] = []
  const logged: string[] = []
  const log = (message: string, fields: object) => logged.push(`${message} ${JSON.stringify(fields)}`)
  const gateway = await startGateway({ env, clock: systemClock, report: (news) => news.stage === 'end' && reports.push(news), log })
  const warm = new WarmPool({ clock: systemClock, limits: { idleMs: warmIdleS * 1_000, budgetBytes: 2 ** 32, spares }, memoryOf, log })
  const prepare = preparer({
    sandbox: await detect('none', { env, claude, hidden: [] }),
    policy: Policy.parse({ allow_private_base_urls: allowPrivate, warm_idle_s: warmIdleS, spares, env_allow: envAllow }),
    roots: [dir],
    closed: [],
    inUse: new InUse(),
    configRoot: join(dir, 'config'),
    config: { files: [] },
    privateRoot: join(dir, 'runs'),
    treasury: { provider: login.kind === 'none' ? null : 'local', login, sealingKey: privateKey },
    gateway,
    warm,
    records: new WarmRecords(dir, log),
    env,
    home: dir,
    log,
  })

  async function grantOf(run: string, { id, url, key = `sk-key-of-${id}-0123456789`, grant = {} }: Provider): Promise<Grant> {
    const sealed_key = await new CompactEncrypt(new TextEncoder().encode(key))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', typ: SEALED_KEY_TYP, run, provider: id })
      .encrypt(publicKey)
    return { provider: id, version: 1, models: null, api: { base_url: url, sealed_key }, env: {}, model_map: {}, ...grant }
  }

  const stage: Stage = {
    dir,
    gateway,
    reports,
    waiting: () => warm.view(),
    log: () => logged.join('\n'),
    async prepare(providers, spec = {}, more = {}) {
      const run = `run_${randomUUID().replaceAll('-', '')}`
      const granted = await Promise.all(providers.map((provider) => grantOf(run, provider)))
      const grants: Grants = { providers: granted, headers_timeout_ms: 10_000, failure_threshold: 5, recovery_ms: 60_000, ...more }
      const whole: RunSpec = { tenant: 'default', session: { mode: 'new', id: randomUUID() }, prompt: 'hello', timeout_s: 60, model: 'claude-sonnet-4-5', ...spec }
      const offer = { t: 'offer' as const, id: 'o1', run, fence: 1, spec: whole, start_by_ms: 15_000, ...(granted.length > 0 ? { grants } : {}) }
      return prepare(offer, randomUUID(), new AbortController().signal)
    },
    async run(...how) {
      const prepared = await stage.prepare(...how)
      const lines: Line[] = []
      let seq = 1
      const line = (bytes: Uint8Array) => {
        lines.push(JSON.parse(Buffer.from(bytes).toString()) as Line)
        return ++seq
      }
      const batch = (bytes: Uint8Array) => linesIn(bytes).forEach(line)
      const end = await prepared.process.turn({ line, batch, mark: (mark) => void lines.push({ type: 'mark', mark }) })
      await prepared.dispose()
      return { ...end, lines }
    },
    async close() {
      await warm.close()
      await gateway.close()
      await rm(dir, { recursive: true, force: true, maxRetries: 3 })
    },
  }
  return stage
}
