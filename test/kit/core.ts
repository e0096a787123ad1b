/**
 * A RunnerCore without a host: what it asks for is collected here, and a test says when an append becomes durable,
 * fails, or is fenced out. Time is a number that the test moves.
 */
import { RunnerCore, type Append, type Effect } from '../../router/core/runner-core.ts'
import { decodeToRunner, type AckEntry, type HeldRun, type Hello, type ToRouter, type ToRunner } from '../../shared/frames.ts'
import type { Mark } from '../../shared/marks.ts'
import type { RunSpec } from '../../shared/run-spec.ts'

export const RUN = `run_${'a'.repeat(32)}`
export const OTHER = `run_${'b'.repeat(32)}`
export const SESSION = '0190a8c4-7c1e-7000-8000-000000000001'
export const SPEC: RunSpec = { tenant: 'default', session: { mode: 'new', id: SESSION }, prompt: 'hi', timeout_s: 60 }
export const STARTED: Mark = { kind: 'started', session_id: SESSION, provider: 'local', cli_version: '1', cwd: '/work', warm: false }
export const EXIT: Mark = { kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 5 }

const encoder = new TextEncoder()
const decoder = new TextDecoder()

type Refused = Extract<Effect, { do: 'refused' }>
type Lease = Extract<Effect, { do: 'accepted' }>

export class CoreRig {
  readonly core: RunnerCore
  now = 0
  readonly sent: ToRunner[] = []
  readonly acks: AckEntry[] = []
  readonly closed: { conn: number; code: number }[] = []
  readonly refused: Refused[] = []
  readonly woken: string[] = []
  readonly over: string[] = []
  readonly requeued: string[] = []
  /** Asked for and not yet answered. */
  readonly pending: Append[] = []
  readonly leases: Lease[] = []
  readonly kept: Append[] = []

  constructor() {
    this.core = new RunnerCore(this.now)
  }

  do(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.do === 'send' || effect.do === 'offer') {
        const decoded = decodeToRunner(JSON.stringify(effect.message))
        if (!decoded.ok) throw new Error(`the core sent ${JSON.stringify(effect.message)}`)
        this.sent.push(effect.message)
      } else if (effect.do === 'close') this.closed.push({ conn: effect.conn, code: effect.code })
      else if (effect.do === 'append') this.pending.push(effect.append)
      else if (effect.do === 'ack') this.acks.push(effect.entry)
      else if (effect.do === 'accepted') this.leases.push(effect)
      else if (effect.do === 'refused') this.refused.push(effect)
      else if (effect.do === 'wake') this.woken.push(effect.run)
      else if (effect.do === 'over') this.over.push(effect.run)
      else if (effect.do === 'requeue') this.requeued.push(effect.run)
    }
  }

  /** Opens connection `conn` and greets with these runs. */
  connect(conn: number, runs: HeldRun[] = [], more: Partial<Hello> = {}): void {
    this.do(this.core.opened(conn, this.now))
    this.greet(conn, runs, more)
  }

  greet(conn: number, runs: HeldRun[] = [], more: Partial<Hello> = {}): void {
    this.do(this.core.greeted(conn, hello(conn, runs, more), this.now))
  }

  cut(conn: number): void {
    this.do(this.core.closed(conn, this.now))
  }

  receive(conn: number, message: Exclude<ToRouter, { t: 'hello' } | { t: 'refresh' }>): void {
    this.do(this.core.message(conn, message, this.now))
  }

  mark(conn: number, seq: number, mark: Mark, run = RUN, fence = 1): void {
    this.receive(conn, { t: 'mark', run, fence, seq, mark })
  }

  lines(conn: number, first: number, lines: readonly string[], run = RUN, fence = 1): void {
    const body = encoder.encode(lines.map((line) => `${line}\n`).join(''))
    this.do(this.core.events(conn, { header: { t: 'ev', run, fence, first, n: lines.length }, body }, this.now))
  }

  part(conn: number, seq: number, i: number, of: number, run = RUN, fence = 1): void {
    this.do(this.core.events(conn, { header: { t: 'part', run, fence, seq, i, of }, body: encoder.encode('x') }, this.now))
  }

  tick(byMs = 0): void {
    this.now += byMs
    this.do(this.core.tick(this.now))
  }

  /** The next `n` appends are durable; all of them if it is not said. */
  commit(n = this.pending.length): void {
    for (const append of this.pending.splice(0, n)) {
      this.kept.push(append)
      this.do(this.core.committed(append))
    }
  }

  /** Everything that waits has failed, as it does behind a failed commit. */
  failStorage(): void {
    const failed = this.pending.splice(0)
    failed.forEach(() => this.do(this.core.storageFailed(this.now)))
  }

  /** Offer, accept, go: the runner may start. */
  lease(conn = 1, run = RUN, fence = 1): void {
    this.do(this.core.offer(run, fence, SPEC, this.now))
    this.receive(conn, { t: 'accept', re: this.last('offer').id, run, fence, cwd: '/work' })
    this.do(this.core.leased(run, fence, true, this.now))
  }

  /** The same, and the CLI runs: event 1 is durable. */
  start(conn = 1, run = RUN, fence = 1): void {
    this.lease(conn, run, fence)
    this.receive(conn, { t: 'starting', run, fence })
    this.mark(conn, 1, STARTED, run, fence)
    this.commit()
  }

  /** The newest message of this kind. */
  last<T extends ToRunner['t']>(t: T): Extract<ToRunner, { t: T }> {
    const message = this.sent.findLast((m) => m.t === t)
    if (!message) throw new Error(`no ${t} was sent`)
    return message as Extract<ToRunner, { t: T }>
  }

  count(t: ToRunner['t']): number {
    return this.sent.filter((m) => m.t === t).length
  }

  /** What of a run is durable, one entry an event: the seq and the mark or line. */
  log(run = RUN): [number, unknown][] {
    return this.kept
      .filter((append) => append.run === run)
      .flatMap(({ rows }) => rows)
      .flatMap((row): [number, unknown][] => {
        const text = decoder.decode(row.bytes)
        if (row.kind === 'mark') return [[row.first, JSON.parse(text)]]
        if (row.kind === 'part') return [[row.first, `part ${row.part}`]]
        return text.split('\n').slice(0, -1).map((line, i) => [row.first + i, line])
      })
  }
}

export function held(state: HeldRun['state'], last: number, run = RUN, fence = 1): HeldRun {
  return { run, fence, state, last }
}

export function hello(conn: number, runs: HeldRun[], more: Partial<Hello> = {}): Hello {
  return {
    t: 'hello',
    proto: [1, 1],
    boot: SESSION,
    conn,
    agent: '0.1.0',
    cli: null,
    os: 'test',
    caps: [],
    slots: 2,
    labels: {},
    provider: 'local',
    runs,
    ...more,
  }
}

/** A run as a restarted router finds it in its database. */
export const restored = (more: object = {}) => ({
  run: RUN,
  fence: 1,
  state: 'running' as const,
  durable: { seq: 4, part: 0 },
  parts: 0,
  cancelRequested: false,
  timeoutMs: 600_000,
  ...more,
})
