/**
 * What every dialect does with the run engine: submit what was asked, wait for its end, stream it. A dialect adds its words.
 */
import type { Context } from 'hono'
import { DEFAULT_QUEUE_TIMEOUT_S, type FamilyName } from '../../../shared/compat-settings.ts'
import { Fault } from '../../../shared/faults.ts'
import { isTerminal } from '../../core/run-state.ts'
import { untilEnded } from '../../engine/stream.ts'
import { submit, type Origin, type Submission } from '../../engine/submit.ts'
import { whileWelcome } from '../../guard/watch.ts'
import type { AppEnv, RunRef, RunRow } from '../../ports.ts'

type Wish = Pick<Submission, 'prompt' | 'cli'> & Partial<Submission> & { readonly origin: Origin }

const FAMILY: Readonly<Partial<Record<Origin, FamilyName>>> = {
  claudecode2api: 'claudecode2api',
  ccs: 'ccs',
  'claude-code-server': 'claude_code_server',
  'claude-code-api': 'claude_code_api',
}

const DEFAULTS = {
  sessionId: undefined,
  fork: false,
  cwd: undefined,
  pool: undefined,
  labels: {},
  priority: 5,
  onBusy: 'queue',
  onDisconnectMs: null,
  metadata: undefined,
} as const

/** Throws the fault of a refusal: until a runner has accepted (or, with `placed`, a place in line is known) nothing is promised. */
export async function begin(c: Context<AppEnv>, wish: Wish, until: 'accepted' | 'placed' = 'accepted'): Promise<RunRef> {
  const deps = c.get('deps')
  const family = FAMILY[wish.origin]
  const queueTimeoutS = wish.queueTimeoutS ?? (family ? (await deps.catalog.compat())[family].queue_timeout_s : DEFAULT_QUEUE_TIMEOUT_S)
  const whole: Submission = { timeoutS: deps.settings.timeoutS, ...DEFAULTS, ...wish, queueTimeoutS }
  const options = { newSessionId: crypto.randomUUID(), claim: undefined, until }
  return whileWelcome(c.get('recheck'), c.req.raw.signal, (signal) => submit(deps, c.get('principal'), whole, { ...options, signal }))
}

/** The row of the run as it is. Throws `run_not_found`. */
export async function rowOf(c: Context<AppEnv>, ref: RunRef): Promise<RunRow> {
  const row = await c.get('deps').records.find(ref)
  if (!row) throw new Fault('run_not_found', `no run ${ref.run}`)
  return row
}

/** Waits for its end. Throws `draining` when the router stops before. */
export async function ended(c: Context<AppEnv>, ref: RunRef): Promise<RunRow> {
  const deps = c.get('deps')
  await whileWelcome(c.get('recheck'), c.req.raw.signal, (signal) => untilEnded(deps, ref, signal))
  const row = await rowOf(c, ref)
  if (!isTerminal(row.state)) throw new Fault('draining', `the router is stopping; run ${ref.run} goes on`, { retryAfterS: 2 })
  return row
}
