/**
 * What the router decides about one runner and the runs it holds: admission, leases, numbering, endings.
 *
 * No clock, no I/O. The host passes in monotonic milliseconds and what happened, and carries out the effects in order.
 * Nothing is acknowledged or shown before `committed` says that it is durable (I8), and a connection that is not the
 * newest one is not heard (I2, I7).
 */
import type { EventFrame } from '../../shared/event-frames.ts'
import type { FaultCode } from '../../shared/faults.ts'
import { CLOSE, type Accept, type Greeting, type Hello, type ToRouter } from '../../shared/frames.ts'
import { CONNECTION_WINDOW, MAX_MESSAGE, RUN_WINDOW, START_BY_MS } from '../../shared/limits.ts'
import type { Mark } from '../../shared/marks.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { PROTO_MAX, PROTO_MIN } from '../../shared/version.ts'
import { cancelOf, greetingOf, leaseOf, loss, malformed, outsideLife, renewal, revoke, unfit, welcome, whySilent, type Append, type Effect, type RestoredRun } from './effects.ts'
import { eventBytes, type LogRow } from './intake.ts'
import { howItEnded, isStarted, offeredRun, renew, whatIsDue, type LiveRun } from './live-run.ts'
import { reconcile, takeUp } from './reconcile.ts'
import { endingOf } from './run-state.ts'

export type { Append, Effect, RestoredRun } from './effects.ts'

type Link = { readonly conn: number; readonly openedAt: number; heardAt: number; hello: Greeting | undefined; draining: boolean }

const encoder = new TextEncoder()

export class RunnerCore {
  readonly #live = new Map<string, LiveRun>()
  /** Had their lease when the log failed: whether they go on is what the database says next. */
  #unsure: Set<LiveRun> | undefined
  #link: Link | undefined
  #epoch = 0
  #ids = 0
  #offlineSince: number
  /** Bytes of events that the log has not confirmed; a runner that ignores its credit must not fill our memory. */
  #uncommitted = 0

  /** `offlineSince`: since when the runner has had no connection, as far as anybody knows. */
  constructor(offlineSince: number) {
    this.#offlineSince = offlineSince
  }

  /** The newest hello, while its connection lives. */
  get hello(): Greeting | undefined {
    return this.#link?.hello
  }

  get draining(): boolean {
    return this.#link?.draining ?? false
  }

  get busy(): number {
    return this.#live.size
  }

  get idle(): boolean {
    return this.#link === undefined && this.#live.size === 0
  }

  knows(run: string, fence = this.#live.get(run)?.fence): boolean {
    return this.#live.has(run) && this.#live.get(run)?.fence === fence
  }

  /** Live runs as the database has them: what a restarted router must expect its runner to bring back. */
  restore(runs: readonly RestoredRun[], now: number): Effect[] {
    const over = takeUp(this.#live, this.#unsure ?? [], runs, now, this.#link ? now : this.#offlineSince)
    this.#unsure = undefined
    const effects = over.flatMap((run): Effect[] => [{ do: 'wake', run }, { do: 'over', run }])
    for (const run of this.#live.values()) {
      if (run.phase === 'returning') effects.push({ do: 'requeue', run: run.run, fence: run.fence })
      else if (this.#link?.hello && run.cancel && run.cancel.sentAt === undefined && isStarted(run)) effects.push(this.#sendCancel(run, now))
    }
    return effects
  }

  /** A new authenticated socket. The newest connection of an identity wins. */
  opened(conn: number, now: number): Effect[] {
    const effects: Effect[] = this.#link ? [{ do: 'close', conn: this.#link.conn, code: CLOSE.superseded, reason: 'a newer connection took over' }] : []
    effects.push(...this.#dropLink(now))
    this.#link = { conn, openedAt: now, heardAt: now, hello: undefined, draining: false }
    return effects
  }

  closed(conn: number, now: number): Effect[] {
    return this.#link?.conn === conn ? this.#dropLink(now) : []
  }

  heard(conn: number, now: number): void {
    if (this.#link?.conn === conn) this.#link.heardAt = Math.max(this.#link.heardAt, now)
  }

  /** A connection that outlived the memory of its host, as it was. */
  relink(link: { conn: number; hello: Greeting | undefined; draining: boolean; heardAt: number }): void {
    this.#link = { ...link, openedAt: link.heardAt }
  }

  /**
   * First message of a connection. The host has waited for its pending commits and restored this runner's live runs,
   * so what is durable now is what the runner may forget.
   */
  greeted(conn: number, hello: Hello, now: number): Effect[] {
    const link = this.#link
    if (link?.conn !== conn) return []
    if (link.hello) return [malformed(conn, 'a second hello')]
    const [oldest, newest] = hello.proto
    if (oldest > PROTO_MAX || newest < PROTO_MIN) return [{ do: 'close', conn, code: CLOSE.version, reason: `protocol ${PROTO_MIN} to ${PROTO_MAX} is supported` }]
    link.hello = greetingOf(hello)
    link.heardAt = now
    const { resume, kept, lost } = reconcile(this.#live, hello.runs)
    this.#epoch++
    const effects: Effect[] = [welcome(Math.min(PROTO_MAX, newest), this.#epoch, resume)]
    for (const run of kept) {
      run.heardAt = now
      // Nothing is pending any more: what was taken and never appended comes again.
      run.intake.rewind()
      if (!isStarted(run)) continue
      effects.push(leaseOf([run], `hello-${this.#epoch}`))
      if (run.cancel) effects.push(this.#sendCancel(run, now))
      else if (run.overdueSince !== undefined) effects.push(cancelOf(run, ++this.#ids, 'kill'))
    }
    for (const { run, why } of lost) effects.push(...this.#lose(run, why))
    return effects
  }

  message(conn: number, message: Exclude<ToRouter, { t: 'hello' } | { t: 'refresh' }>, now: number): Effect[] {
    const link = this.#link
    if (link?.conn !== conn) return []
    link.heardAt = now
    if (!link.hello) return [malformed(conn, `${message.t} before hello`)]
    switch (message.t) {
      case 'accept':
        return this.#accept(message)
      case 'reject': {
        const run = this.#offered(message)
        return run ? this.#refuse(run, message.code, message.message) : []
      }
      case 'starting': {
        const run = this.#find(message)
        if (!run) return [revoke(message)]
        if (run.phase !== 'leased') return []
        run.phase = 'running'
        return [{ do: 'append', append: { run: run.run, fence: run.fence, rows: [], upTo: run.intake.taken, running: true } }]
      }
      case 'mark':
        return this.#mark(conn, message, now)
      case 'hb':
        return renewal(message.id, renew(this.#live, message.runs, now))
      case 'provider':
        return this.#find(message) ? [{ do: 'report', report: message }] : []
      case 'configured':
      case 'drain':
        link.draining ||= message.t === 'drain'
        return []
      case 'bye':
        return [{ do: 'close', conn, code: 1000, reason: 'bye' }]
      case 'err':
        return [{ do: 'log', message: 'the runner reports an error', fields: { code: message.code, detail: message.message } }]
    }
  }

  events(conn: number, { header, body }: EventFrame, now: number): Effect[] {
    const link = this.#link
    if (link?.conn !== conn) return []
    link.heardAt = now
    if (!link.hello) return [malformed(conn, 'events before hello')]
    const run = this.#find(header)
    if (!run) return [revoke(header)]
    if (!isStarted(run)) return outsideLife(conn, run)
    const taken = run.intake.frame(header, body)
    if (!taken.ok) return taken.why === 'seen' ? [] : [malformed(conn, `events of ${run.run} are not contiguous`)]
    run.progressAt = now
    const isTooMuch = this.#uncommitted + body.length > CONNECTION_WINDOW + this.#live.size * MAX_MESSAGE
    if (isTooMuch) return [{ do: 'close', conn, code: CLOSE.rate, reason: 'more was sent than the credit allows' }]
    this.#uncommitted += body.length
    return [{ do: 'append', append: { run: run.run, fence: run.fence, rows: [taken.row], upTo: run.intake.taken } }]
  }

  /** Admission: the one place where a slot is given. */
  offer(run: string, fence: number, spec: RunSpec, now: number): Effect[] {
    const link = this.#link
    const no = unfit(link, this.#live.size)
    if (!link || no) return [{ do: 'refused', run, fence, ...(no ?? { code: 'no_runner', message: '' }) }]
    const id = `o${++this.#ids}`
    this.#live.set(run, offeredRun(run, fence, id, spec.timeout_s * 1_000, now))
    return [{ do: 'offer', conn: link.conn, message: { t: 'offer', id, run, fence, spec, start_by_ms: START_BY_MS } }]
  }

  /** What it would pay with cannot be had: the offer is not sent. */
  withdrawn(runId: string, fence: number, code: FaultCode, message: string): Effect[] {
    const run = this.#find({ run: runId, fence })
    return run?.phase === 'offered' ? this.#refuse(run, code, message) : []
  }

  /** The outcome of the compare-and-set that `accepted` asked for. The first lease is *go*. */
  leased(runId: string, fence: number, ok: boolean, now: number): Effect[] {
    const run = this.#find({ run: runId, fence })
    if (run?.phase !== 'leasing') return []
    if (!ok) {
      this.#live.delete(run.run)
      return [revoke(run)]
    }
    run.phase = 'leased'
    run.heardAt = now
    const effects: Effect[] = [leaseOf([run], run.offer?.id ?? '-')]
    run.offer = undefined
    if (run.cancel) effects.push(this.#sendCancel(run, now))
    return effects
  }

  /** These rows are durable: now they may be acknowledged and shown. */
  committed(done: Append): Effect[] {
    this.#uncommitted -= eventBytes(done.rows)
    const run = this.#find(done)
    if (!run) return done.ending ? [{ do: 'wake', run: done.run }] : []
    run.intake.committed(done.upTo, done.rows.at(-1)?.parts ?? 0)
    const effects: Effect[] = done.rows.length > 0 ? [{ do: 'wake', run: run.run }] : []
    if (done.ending) {
      this.#live.delete(run.run)
      if (this.#link?.hello) effects.push(done.loss ? revoke(run) : { do: 'send', message: { t: 'forget', run: run.run, fence: run.fence } })
    } else if (done.rows.length > 0) {
      effects.push({ do: 'ack', entry: [run.run, run.fence, done.upTo.seq, done.upTo.part, RUN_WINDOW] })
    }
    return effects
  }

  /** The run waits again; what this runner still has of it is void. */
  requeued(run: string, fence: number): Effect[] {
    return this.#letGo({ run, fence }, 'forget')
  }

  /** The row was not ours any more: another writer holds a higher fence, or the run has ended. */
  fencedOut({ run, fence, rows = [] }: { run: string; fence: number; rows?: readonly LogRow[] }): Effect[] {
    this.#uncommitted -= eventBytes(rows)
    return this.#letGo({ run, fence }, 'revoke')
  }

  /** The log will never take this: its run ends here, and nothing else of this runner does. */
  unwritable(append: Append): Effect[] {
    // Not even its end can be written: what is left of it is for the next start of the router.
    const run = append.loss ? undefined : this.#find(append)
    if (!run) return this.fencedOut(append)
    this.#uncommitted -= eventBytes(append.rows)
    run.intake.rewind()
    return this.#lose(run, 'what the runner told of this run could not be stored')
  }

  /** The log could not write: nothing is acknowledged, and the runner sends it all again on its next connection. */
  storageFailed(now: number): Effect[] {
    const conn = this.#link?.conn
    this.#uncommitted = 0
    for (const run of this.#live.values()) {
      if (isStarted(run) || run.phase === 'ending') (this.#unsure ??= new Set()).add(run)
      run.intake.rewind()
      // The ending was not kept, so the run has not ended; its exit mark comes again.
      if (run.phase === 'ending') run.phase = 'running'
    }
    return conn === undefined ? [] : [{ do: 'close', conn, code: CLOSE.overload, reason: 'the database does not take writes' }, ...this.#dropLink(now)]
  }

  /** The wish is durable already; it is told to the runner now, or when it comes back. */
  cancel(runId: string, fence: number, now: number): Effect[] {
    const run = this.#find({ run: runId, fence })
    if (!run || run.cancel) return []
    run.cancel = { sentAt: undefined }
    return this.#link?.hello && isStarted(run) ? [this.#sendCancel(run, now)] : []
  }

  /** Whatever is due by `now`. Cheap enough to be called every second. */
  tick(now: number): Effect[] {
    const effects: Effect[] = []
    const silent = this.#link && whySilent(this.#link, now)
    if (this.#link && silent) effects.push({ do: 'close', conn: this.#link.conn, ...silent }, ...this.#dropLink(now))
    const offlineSince = this.#link?.hello ? undefined : this.#offlineSince
    for (const run of this.#live.values()) {
      const due = whatIsDue(run, offlineSince, now)
      if (due === undefined) continue
      if (due.what === 'void') effects.push(...this.#refuse(run, 'start_by', 'the runner did not answer the offer in time'), revoke(run))
      else if (due.what === 'lost') effects.push(...this.#lose(run, due.why))
      else {
        run.overdueSince = now
        effects.push(cancelOf(run, ++this.#ids, 'kill'))
      }
    }
    return effects
  }

  #accept(message: Accept): Effect[] {
    const run = this.#offered(message)
    if (!run) return this.#find(message) ? [] : [revoke(message)]
    run.phase = 'leasing'
    return [{ do: 'accepted', run: run.run, fence: run.fence, home: { cwd: message.cwd, cliId: message.session } }]
  }

  #mark(conn: number, message: { run: string; fence: number; seq: number; mark: Mark }, now: number): Effect[] {
    const run = this.#find(message)
    if (!run) return [revoke(message)]
    if (!isStarted(run)) return outsideLife(conn, run)
    const taken = run.intake.mark(message.seq, encoder.encode(JSON.stringify(message.mark)))
    if (!taken.ok) return taken.why === 'seen' ? [] : [malformed(conn, `marks of ${run.run} are not contiguous`)]
    run.progressAt = now
    const append: Append = { run: run.run, fence: run.fence, rows: [taken.row], upTo: run.intake.taken }
    if (message.mark.kind === 'started') return [{ do: 'append', append: { ...append, started: { provider: message.mark.provider } } }]
    if (message.mark.kind !== 'exit') return [{ do: 'append', append }]
    const exit = howItEnded(run, message.mark, message.seq)
    run.phase = exit === 'never' ? 'returning' : 'ending'
    if (exit === 'never') return [{ do: 'requeue', run: run.run, fence: run.fence }]
    // Its first mark says that it started: an exit in its place is one of a run that had nothing to spend on.
    return [{ do: 'append', append: { ...append, ending: endingOf(exit, run.cancel !== undefined, message.seq > 1) } }]
  }

  #lose(run: LiveRun, message: string): Effect[] {
    run.phase = 'ending'
    return [{ do: 'append', append: loss(run, run.intake.taken.seq, message) }]
  }

  #letGo(ref: { run: string; fence: number }, t: 'forget' | 'revoke'): Effect[] {
    if (!this.#find(ref)) return []
    this.#live.delete(ref.run)
    return [{ do: 'send', message: { t, ...ref } }, { do: 'wake', run: ref.run }]
  }

  #refuse(run: LiveRun, code: FaultCode, message: string): Effect[] {
    this.#live.delete(run.run)
    return [{ do: 'refused', run: run.run, fence: run.fence, code, message }]
  }

  #sendCancel(run: LiveRun, now: number): Effect {
    run.cancel = { sentAt: now }
    return cancelOf(run, ++this.#ids, 'interrupt')
  }

  #offered(message: { re: string; run: string; fence: number }): LiveRun | undefined {
    const run = this.#find(message)
    return run?.phase === 'offered' && run.offer?.id === message.re ? run : undefined
  }

  #find(ref: { run: string; fence: number }): LiveRun | undefined {
    const run = this.#live.get(ref.run)
    return run?.fence === ref.fence ? run : undefined
  }

  /** Without a lease nothing has started, so an offer that is cut off is void at once. */
  #dropLink(now: number): Effect[] {
    if (!this.#link) return []
    this.#link = undefined
    this.#offlineSince = now
    const offers = [...this.#live.values()].filter((run) => run.phase === 'offered')
    return offers.flatMap((run) => this.#refuse(run, 'no_runner', 'the runner lost its connection before it answered the offer'))
  }
}
