/**
 * What the router decides about one runner and the runs it holds: admission, leases, numbering, endings.
 *
 * No clock, no I/O. The host passes in monotonic milliseconds and what happened, and carries out the effects in order.
 * Nothing is acknowledged or shown before `committed` says that it is durable (I8), and a connection that is not the
 * newest one is not heard (I2, I7).
 */
import type { EventFrame } from '../../shared/event-frames.ts'
import type { FaultCode } from '../../shared/faults.ts'
import { CLOSE, type AckEntry, type Hello, type Resume, type ToRouter, type ToRunner } from '../../shared/frames.ts'
import { CONNECTION_WINDOW, DEAD_MS, GRACE_MS, HELLO_MS, LEASE_MS, MAX_MESSAGE, PING_MS, RUN_WINDOW, START_BY_MS } from '../../shared/limits.ts'
import type { ExitMark, GapMark, Mark } from '../../shared/marks.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import { PROTO_MAX, PROTO_MIN } from '../../shared/version.ts'
import { Intake, type LogRow, type Position } from './intake.ts'
import { endingOf, type Ending } from './run-state.ts'

/** How long a connected runner may take to confirm a cancel; its own ladder is over in 6 s, the sweep included in 10. */
export const CANCEL_CONFIRM_MS = 30_000

/** Rows for the log and the change of the run's row that belongs to them: one commit. */
export type Append = {
  readonly run: string
  readonly fence: number
  readonly rows: readonly LogRow[]
  /** Where the log stands once this is durable. */
  readonly upTo: Position
  readonly started?: { readonly provider: string }
  readonly running?: true
  readonly ending?: Ending
  /** A loss: the fence is raised with the ending, and what had only arrived in part is dropped. */
  readonly loss?: true
}

export type Effect =
  | { do: 'send'; message: ToRunner }
  | { do: 'close'; conn: number; code: number; reason: string }
  | { do: 'append'; append: Append }
  | { do: 'ack'; entry: AckEntry }
  /** The runner accepted: make the lease durable, then call `leased`. */
  | { do: 'accepted'; run: string; fence: number; cwd: string }
  /** The run was not and will not be started under this fence. */
  | { do: 'refused'; run: string; fence: number; code: FaultCode; message: string }
  | { do: 'wake'; run: string }
  | { do: 'log'; message: string; fields: Record<string, string | number> }

type Live = {
  readonly run: string
  readonly fence: number
  phase: 'offered' | 'leasing' | 'leased' | 'running' | 'ending'
  readonly intake: Intake
  cancel: { sentAt: number | undefined } | undefined
  offer: { id: string; startBy: number } | undefined
  /** Last sign of this run: a heartbeat that named it, or the lease itself. */
  heardAt: number
}

type Link = { readonly conn: number; readonly openedAt: number; heardAt: number; hello: Hello | undefined; draining: boolean }

export type RestoredRun = { run: string; fence: number; state: 'leased' | 'running'; durable: Position; parts: number; cancelRequested: boolean }

const encoder = new TextEncoder()

export class RunnerCore {
  readonly #live = new Map<string, Live>()
  #link: Link | undefined
  #epoch = 0
  #ids = 0
  #offlineSince: number

  constructor(now: number) {
    this.#offlineSince = now
  }

  /** The newest hello, while its connection lives. */
  get hello(): Hello | undefined {
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

  knows(run: string): boolean {
    return this.#live.has(run)
  }

  /** Live runs as the database has them: what a restarted router must expect its runner to bring back. */
  restore(runs: readonly RestoredRun[], now: number): void {
    for (const r of runs) {
      if (this.#live.has(r.run)) continue
      this.#live.set(r.run, {
        run: r.run,
        fence: r.fence,
        phase: r.state,
        intake: new Intake(r.durable, r.parts),
        cancel: r.cancelRequested ? { sentAt: undefined } : undefined,
        offer: undefined,
        heardAt: now,
      })
    }
  }

  /** A new authenticated socket. The newest connection of an identity wins. */
  opened(conn: number, now: number): Effect[] {
    const effects: Effect[] = this.#link ? [{ do: 'close', conn: this.#link.conn, code: CLOSE.superseded, reason: 'a newer connection took over' }] : []
    this.#dropLink(now)
    this.#link = { conn, openedAt: now, heardAt: now, hello: undefined, draining: false }
    return effects
  }

  closed(conn: number, now: number): void {
    if (this.#link?.conn === conn) this.#dropLink(now)
  }

  heard(conn: number, now: number): void {
    if (this.#link?.conn === conn) this.#link.heardAt = now
  }

  /**
   * First message of a connection. The host has waited for its pending commits and restored this runner's live runs,
   * so what is durable now is what the runner may forget.
   */
  greeted(conn: number, hello: Hello, now: number): Effect[] {
    const link = this.#link
    if (link?.conn !== conn) return []
    if (link.hello) return [this.#malformed(conn, 'a second hello')]
    if (hello.proto[0] > PROTO_MAX || hello.proto[1] < PROTO_MIN) {
      return [{ do: 'close', conn, code: CLOSE.version, reason: `protocol ${PROTO_MIN} to ${PROTO_MAX} is supported` }]
    }
    link.hello = hello
    link.heardAt = now
    const resume: Resume[] = []
    const after: Effect[] = []
    const held = new Set(hello.runs.map((r) => r.run))
    for (const theirs of hello.runs) {
      const ours = this.#live.get(theirs.run)
      if (!ours || ours.fence !== theirs.fence || ours.phase === 'offered') {
        resume.push({ run: theirs.run, fence: theirs.fence, ack: 0, part: 0, do: 'revoke' })
        continue
      }
      const { seq, part } = ours.intake.durable
      resume.push({ run: ours.run, fence: ours.fence, ack: seq, part, do: 'continue' })
      ours.heardAt = now
      if (ours.phase === 'leased' || ours.phase === 'running') after.push(this.#leaseOf([ours], `hello-${this.#epoch + 1}`))
      if (ours.cancel) after.push(this.#sendCancel(ours, now))
    }
    for (const ours of this.#live.values()) {
      // Without a lease nothing has started, so an offer that was cut off is simply void.
      if (ours.phase === 'offered') after.push(...this.#refuse(ours, 'start_by', 'the runner lost its connection before it answered the offer'))
      // It lists every run it has anything of, so a run that is missing is gone with its disk.
      else if (!held.has(ours.run) && (ours.phase === 'leased' || ours.phase === 'running')) {
        after.push(...this.#lose(ours, 'the runner came back without this run'))
      }
    }
    this.#epoch++
    const welcome: ToRunner = {
      t: 'welcome',
      proto: Math.min(PROTO_MAX, hello.proto[1]),
      epoch: this.#epoch,
      ping_ms: PING_MS,
      dead_ms: DEAD_MS,
      lease_ms: LEASE_MS,
      grace_ms: GRACE_MS,
      max_msg: MAX_MESSAGE,
      credit: CONNECTION_WINDOW,
      resume,
    }
    return [{ do: 'send', message: welcome }, ...after]
  }

  message(conn: number, message: Exclude<ToRouter, { t: 'hello' } | { t: 'refresh' }>, now: number): Effect[] {
    const link = this.#link
    if (link?.conn !== conn) return []
    link.heardAt = now
    if (!link.hello) return [this.#malformed(conn, `${message.t} before hello`)]
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
        return this.#mark(conn, message)
      case 'hb':
        return this.#heartbeat(message, now)
      case 'drain':
        link.draining = true
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
    if (!link.hello) return [this.#malformed(conn, 'events before hello')]
    const run = this.#find(header)
    if (!run) return [revoke(header)]
    const taken = run.intake.frame(header, body)
    if (!taken.ok) return taken.why === 'seen' ? [] : [this.#malformed(conn, `events of ${run.run} are not contiguous`)]
    if (run.phase !== 'leased' && run.phase !== 'running') return [this.#malformed(conn, `events of ${run.run} outside its life`)]
    return [{ do: 'append', append: { run: run.run, fence: run.fence, rows: [taken.row], upTo: run.intake.taken } }]
  }

  /** Admission: the one place where a slot is given. */
  offer(run: string, fence: number, spec: RunSpec, now: number): Effect[] {
    const refuse = (code: FaultCode, message: string): Effect[] => [{ do: 'refused', run, fence, code, message }]
    const link = this.#link
    if (!link?.hello) return refuse('no_runner', 'the runner is not connected')
    if (link.draining) return refuse('draining', 'the runner takes no new runs')
    if (this.#live.size >= link.hello.slots) return refuse('busy', `all ${link.hello.slots} slots of the runner are taken`)
    const id = `o${++this.#ids}`
    this.#live.set(run, {
      run,
      fence,
      phase: 'offered',
      intake: new Intake({ seq: 0, part: 0 }),
      cancel: undefined,
      offer: { id, startBy: now + START_BY_MS },
      heardAt: now,
    })
    return [{ do: 'send', message: { t: 'offer', id, run, fence, spec, start_by_ms: START_BY_MS } }]
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
    const effects: Effect[] = [this.#leaseOf([run], run.offer?.id ?? '-')]
    run.offer = undefined
    if (run.cancel) effects.push(this.#sendCancel(run, now))
    return effects
  }

  /** These rows are durable: now they may be acknowledged and shown. */
  committed(done: Append): Effect[] {
    const run = this.#find(done)
    if (!run) return done.ending ? [{ do: 'wake', run: done.run }] : []
    run.intake.committed(done.upTo)
    const effects: Effect[] = done.rows.length > 0 ? [{ do: 'wake', run: run.run }] : []
    if (done.ending) {
      this.#live.delete(run.run)
      if (this.#link?.hello) effects.push(done.loss ? revoke(run) : { do: 'send', message: { t: 'forget', run: run.run, fence: run.fence } })
    } else if (done.rows.length > 0) {
      effects.push({ do: 'ack', entry: [run.run, run.fence, done.upTo.seq, done.upTo.part, RUN_WINDOW] })
    }
    return effects
  }

  /** The row was not ours any more: another writer holds a higher fence, or the run has ended. */
  fencedOut(runId: string, fence: number): Effect[] {
    const run = this.#find({ run: runId, fence })
    if (!run) return []
    this.#live.delete(run.run)
    return [revoke(run), { do: 'wake', run: run.run }]
  }

  /** The log could not write: nothing is acknowledged, and the runner sends it all again on its next connection. */
  storageFailed(now: number): Effect[] {
    const conn = this.#link?.conn
    for (const run of this.#live.values()) {
      run.intake.rewind()
      // The ending was not kept, so the run has not ended; its exit mark comes again.
      if (run.phase === 'ending') run.phase = 'running'
    }
    this.#dropLink(now)
    return conn === undefined ? [] : [{ do: 'close', conn, code: CLOSE.overload, reason: 'the database does not take writes' }]
  }

  /** The wish is durable already; it is told to the runner now, or when it comes back. */
  cancel(runId: string, fence: number, now: number): Effect[] {
    const run = this.#find({ run: runId, fence })
    if (!run || run.cancel) return []
    run.cancel = { sentAt: undefined }
    return this.#link?.hello && (run.phase === 'leased' || run.phase === 'running') ? [this.#sendCancel(run, now)] : []
  }

  /** Whatever is due by `now`. Cheap enough to be called every second. */
  tick(now: number): Effect[] {
    const effects: Effect[] = []
    const link = this.#link
    if (link && !link.hello && now - link.openedAt >= HELLO_MS) {
      effects.push({ do: 'close', conn: link.conn, code: CLOSE.malformed, reason: 'no hello' })
      this.#dropLink(now)
    } else if (link && now - link.heardAt >= DEAD_MS) {
      effects.push({ do: 'close', conn: link.conn, code: CLOSE.liveness, reason: 'silent for too long' })
      this.#dropLink(now)
    }
    const connected = this.#link?.hello !== undefined
    for (const run of this.#live.values()) {
      if (run.phase === 'ending' || run.phase === 'leasing') continue
      if (run.phase === 'offered') {
        if (run.offer && now >= run.offer.startBy) effects.push(...this.#refuse(run, 'start_by', 'the runner did not answer the offer in time'), revoke(run))
      } else if (!connected) {
        if (now - Math.max(this.#offlineSince, run.heardAt) >= GRACE_MS) effects.push(...this.#lose(run, 'the runner was away for too long'))
      } else if (run.cancel?.sentAt !== undefined && now - run.cancel.sentAt >= CANCEL_CONFIRM_MS) {
        effects.push(...this.#lose(run, 'the runner did not confirm that the run is cancelled'))
      } else if (now - run.heardAt >= LEASE_MS + GRACE_MS) {
        effects.push(...this.#lose(run, 'the runner no longer speaks of this run'))
      }
    }
    return effects
  }

  #accept(message: { re: string; run: string; fence: number; cwd: string }): Effect[] {
    const run = this.#offered(message)
    if (!run) return this.#find(message) ? [] : [revoke(message)]
    run.phase = 'leasing'
    return [{ do: 'accepted', run: run.run, fence: run.fence, cwd: message.cwd }]
  }

  #mark(conn: number, message: { run: string; fence: number; seq: number; mark: Mark }): Effect[] {
    const run = this.#find(message)
    if (!run) return [revoke(message)]
    const taken = run.intake.mark(message.seq, encoder.encode(JSON.stringify(message.mark)))
    if (!taken.ok) return taken.why === 'seen' ? [] : [this.#malformed(conn, `marks of ${run.run} are not contiguous`)]
    if (run.phase !== 'leased' && run.phase !== 'running') return [this.#malformed(conn, `marks of ${run.run} outside its life`)]
    const append: Append = { run: run.run, fence: run.fence, rows: [taken.row], upTo: run.intake.taken }
    if (message.mark.kind === 'started') return [{ do: 'append', append: { ...append, started: { provider: message.mark.provider } } }]
    if (message.mark.kind !== 'exit') return [{ do: 'append', append }]
    run.phase = 'ending'
    return [{ do: 'append', append: { ...append, ending: endingOf(message.mark, run.cancel !== undefined) } }]
  }

  #heartbeat(message: { id: string; runs: [string, number, number][] }, now: number): Effect[] {
    const renewed: Live[] = []
    const effects: Effect[] = []
    for (const [runId, fence] of message.runs) {
      const run = this.#find({ run: runId, fence })
      if (!run) effects.push(revoke({ run: runId, fence }))
      else if (run.phase === 'leased' || run.phase === 'running') {
        run.heardAt = now
        renewed.push(run)
      }
    }
    if (renewed.length > 0) effects.push(this.#leaseOf(renewed, message.id))
    return effects
  }

  /** `lost` is numbered here: a gap without an end, then the exit, so that a stream closes like any other. */
  #lose(run: Live, message: string): Effect[] {
    const { seq } = run.intake.taken
    const gap: GapMark = { kind: 'gap', reason: 'lost', from: seq + 1, to: null }
    const exit: ExitMark = { kind: 'exit', code: null, signal: null, reason: 'lost', message, duration_ms: 0 }
    const rows = [gap, exit].map((mark, i): LogRow => ({ first: seq + 1 + i, part: 0, parts: 1, count: 1, kind: 'mark', bytes: encoder.encode(JSON.stringify(mark)) }))
    run.phase = 'ending'
    return [{ do: 'append', append: { run: run.run, fence: run.fence, rows, upTo: { seq: seq + 2, part: 0 }, ending: endingOf(exit, false), loss: true } }]
  }

  #refuse(run: Live, code: FaultCode, message: string): Effect[] {
    this.#live.delete(run.run)
    return [{ do: 'refused', run: run.run, fence: run.fence, code, message }]
  }

  #sendCancel(run: Live, now: number): Effect {
    run.cancel = { sentAt: now }
    return { do: 'send', message: { t: 'cancel', id: `c${++this.#ids}`, run: run.run, fence: run.fence, mode: 'interrupt', grace_ms: 2_000 } }
  }

  #leaseOf(runs: readonly Live[], re: string): Effect {
    return { do: 'send', message: { t: 'lease', re, l: runs.map((r) => [r.run, r.fence, LEASE_MS]) } }
  }

  #offered(message: { re: string; run: string; fence: number }): Live | undefined {
    const run = this.#find(message)
    return run?.phase === 'offered' && run.offer?.id === message.re ? run : undefined
  }

  #find(ref: { run: string; fence: number }): Live | undefined {
    const run = this.#live.get(ref.run)
    return run?.fence === ref.fence ? run : undefined
  }

  #malformed(conn: number, reason: string): Effect {
    return { do: 'close', conn, code: CLOSE.malformed, reason: reason.slice(0, 120) }
  }

  #dropLink(now: number): void {
    if (!this.#link) return
    this.#link = undefined
    this.#offlineSince = now
    // What arrived but is not durable may still be committed; the next hello is answered only after that is known.
  }
}

function revoke(ref: { run: string; fence: number }): Effect {
  return { do: 'send', message: { t: 'revoke', run: ref.run, fence: ref.fence } }
}
