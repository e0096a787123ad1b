/**
 * One run on this machine, from accepted to forgotten: the CLI's lines go to the spool, its end becomes the exit mark.
 *
 * The exit mark is written in one place, `#exit`, exactly once. Everything the CLI prints before its end is in the
 * spool first; sending is the outbox's business and never holds the reader up, short of a full spool.
 */
import { linesIn } from '../shared/lines.ts'
import { LEASE_MS, SPOOL_HARD_BYTES, SPOOL_SOFT_BYTES } from '../shared/limits.ts'
import type { ExitMark, ExitReason, GapMark, RawMark, StderrMark } from '../shared/marks.ts'
import type { HeldRun as Held } from '../shared/frames.ts'
import type { CancelMode, CliProcess, TurnEnd } from './cli-process.ts'
import type { Clock } from './clock.ts'
import { LogCap, markBytes } from './log-cap.ts'
import { Outbox } from './outbox.ts'
import type { Spool } from './spool.ts'

/** The exit waits for the disk to have all that is not there yet: a disk that many write to takes its time. */
const UNSYNCED_BYTES = 1_048_576

export type Prepared = {
  readonly process: CliProcess
  readonly cwd: string
  /** The CLI's own id of a new session, where it is not that of the offer. */
  readonly cliSession?: string | undefined
  readonly provider: string
  /** What is kept of its output; absent: all. */
  readonly maxLogBytes?: number
  dispose(): Promise<void>
}

export type HeldRunEvents = {
  /** The CLI has its prompt, and the mark of its start is there to be sent. */
  began(run: HeldRun): void
  /** There is something new to send. */
  changed(run: HeldRun): void
  log(message: string, fields: Record<string, unknown>): void
}

export class HeldRun {
  readonly run: string
  readonly fence: number
  readonly outbox: Outbox
  readonly #spool: Spool
  readonly #clock: Clock
  readonly #events: HeldRunEvents
  readonly #prepared: Prepared | undefined
  readonly #sessionId: string
  readonly #timeoutMs: number
  #state: Held['state']
  #reason: ExitReason | undefined
  #message: string | undefined
  #startedAt: number | undefined
  #leasedAt: number
  #ended: Promise<void> | undefined
  #stopTimeout: (() => void) | undefined
  #paused = false
  #full = false
  /** Events were read that the spool did not take. */
  #missing = false
  /** Something was taken in this turn of the event loop. */
  #isTaking = false
  readonly #cap: LogCap

  constructor(parts: { spool: Spool; clock: Clock; events: HeldRunEvents; prepared?: Prepared; timeoutMs?: number }) {
    this.#spool = parts.spool
    this.#clock = parts.clock
    this.#events = parts.events
    this.#prepared = parts.prepared
    this.#timeoutMs = parts.timeoutMs ?? 0
    this.#cap = new LogCap(parts.prepared?.maxLogBytes ?? Infinity)
    this.#sessionId = parts.spool.intent.session
    this.run = parts.spool.intent.run
    this.fence = parts.spool.intent.fence
    this.outbox = new Outbox(parts.spool)
    this.#leasedAt = parts.clock.now()
    this.#state = parts.prepared ? 'accepted' : leftAs(parts.spool)
  }

  get held(): Held {
    return { run: this.run, fence: this.fence, state: this.#state, last: this.#spool.last }
  }

  /** In the environment of every process of this run. */
  get marker(): string {
    return this.#spool.intent.marker
  }

  get cwd(): string {
    return this.#prepared?.cwd ?? ''
  }

  get cliSession(): string | undefined {
    return this.#prepared?.cliSession
  }

  /** A process of it is alive, or may become so. */
  get active(): boolean {
    return this.#prepared !== undefined && this.#state !== 'exited'
  }

  get sinceLeaseMs(): number {
    return this.#clock.now() - this.#leasedAt
  }

  /** The first lease is *go*; every later one renews. `ageMs` is how old the lease may already be. */
  leased(ageMs: number, ttlMs: number): void {
    this.#leasedAt = this.#clock.now() - ageMs
    if (!this.#prepared || this.#state !== 'accepted' || this.#reason) return
    // Past half its life the router may be about to give the run up; then it must not start here.
    if (ageMs >= ttlMs / 2) this.#endSoon('not_started', 'kill', 'the go came too late')
    else this.#ended ??= this.#go()
  }

  /**
   * A new connection, and what the router has of this run. What an earlier process left without an end gets it only now:
   * after a power cut the router may have more than this disk, and then an exit would take a seq that is known already.
   */
  resume(ack: number, part: number): void {
    this.outbox.resume(ack, part)
    if (this.#prepared || this.#state === 'exited' || this.#ended) return
    const started = this.#spool.hasStarted
    this.#reason = started ? 'runner_restarted' : 'not_started'
    // What the CLI printed and the earlier process could not keep, or had no time to read, only that process knew.
    this.#missing = started
    this.#ended = this.#exit({ code: null, signal: null, result: undefined })
  }

  acked(seq: number, part: number, window: number): void {
    this.outbox.ack(seq, part, window)
    this.#backpressure()
  }

  /** Ends it for `reason`; the first reason given is the one that counts. Resolves when nothing of it is alive. */
  async end(reason: ExitReason, mode: CancelMode, message?: string): Promise<void> {
    if (!this.active) return
    if (!this.#reason) {
      this.#reason = reason
      this.#message = message
    }
    await this.#prepared?.process.cancel(mode)
    // Without a go there is no turn that would write the exit.
    this.#ended ??= this.#exit({ code: null, signal: null, result: undefined })
    await this.#ended
  }

  /** Closes what is open; with `forget`, nothing of it is left on this disk. */
  async release(forget: boolean): Promise<void> {
    this.#stopTimeout?.()
    if (forget) this.#spool.remove()
    else this.#spool.close()
    await this.#prepared?.dispose()
  }

  /** To be called each second. What the router has is durable there, and a disk that a thousand runs share is waited for. */
  async sync(): Promise<void> {
    if (this.outbox.drained && this.#spool.unsynced < UNSYNCED_BYTES) return
    await this.#spool.sync()
  }

  #endSoon(...how: Parameters<HeldRun['end']>): void {
    this.end(...how).catch((error: unknown) => this.#events.log('a run could not be ended', { run: this.run, err: error }))
  }

  async #go(): Promise<void> {
    const prepared = this.#prepared!
    this.#state = 'starting'
    try {
      await this.#spool.starting()
    } catch (error) {
      return this.#startFailed(error)
    }
    // The disk hung or the machine stood still: by now the router may have given the run up.
    if (!this.#reason && this.sinceLeaseMs >= LEASE_MS) {
      this.#reason = 'runner_stopped'
      this.#message = 'the start took longer than its lease'
      await prepared.process.cancel('kill')
    }
    // A cancel may have arrived while the disk was busy.
    if (this.#reason) return this.#exit({ code: null, signal: null, result: undefined })
    this.#startedAt = this.#clock.now()
    this.#state = 'running'
    try {
      this.#spool.mark({
        kind: 'started',
        session_id: this.#sessionId,
        provider: prepared.provider,
        cli_version: prepared.process.cliVersion,
        cwd: prepared.cwd,
        warm: prepared.process.warm ?? false,
      })
    } catch (error) {
      return this.#startFailed(error)
    }
    this.#stopTimeout = this.#clock.after(this.#timeoutMs, () => this.#endSoon('timeout', 'interrupt'))
    const turn = prepared.process.turn({
      line: (bytes, must) => this.#line(bytes, must),
      batch: (bytes, count) => this.#batch(bytes, count),
      mark: (mark) => this.#mark(mark),
    })
    // Behind the prompt: the CLI works while this is sent.
    this.#events.began(this)
    await this.#exit(await turn)
  }

  async #startFailed(error: unknown): Promise<void> {
    this.#events.log('the start of a run could not be kept', { run: this.run, err: error })
    this.#reason ??= 'spool_full'
    await this.#prepared?.process.cancel('kill')
    await this.#exit({ code: null, signal: null, result: undefined })
  }

  #line(bytes: Uint8Array, must = false): number {
    if (this.#cap.takes(bytes.length, must)) {
      this.#keep(() => {
        this.#spool.line(bytes)
        // The ending will name its seq.
        if (must) this.#spool.flush()
      })
    }
    return this.#spool.lastTaken
  }

  #batch(bytes: Uint8Array, count: number): void {
    const size = bytes.length - count
    if (this.#cap.fits(size)) {
      this.#cap.takes(size, false)
      this.#keep(() => this.#spool.lines(bytes, count))
    } else for (const line of linesIn(bytes)) this.#line(line)
  }

  #mark(mark: RawMark | GapMark | StderrMark): void {
    if (this.#cap.takes(markBytes(mark), mark.kind === 'stderr')) this.#keep(() => this.#spool.mark(mark))
  }

  #keep(take: () => void): void {
    if (this.#full || !this.#tried(take)) this.#missing = true
    if (this.#isTaking) return
    this.#isTaking = true
    queueMicrotask(() => this.#taken())
  }

  /** What one read of the CLI's output brought is written, sent and weighed together. */
  #taken(): void {
    this.#isTaking = false
    if (this.#spool.isClosed) return
    if (!this.#tried(() => this.#spool.flush())) {
      this.#missing = true
      return
    }
    this.#events.changed(this)
    this.#backpressure()
  }

  /** A spool that takes no more ends the run; what was kept before is still sent. */
  #tried(write: () => void): boolean {
    try {
      write()
      return true
    } catch (error) {
      this.#overflow(error)
      return false
    }
  }

  #overflow(error: unknown): void {
    this.#full = true
    this.#events.log('the spool takes no more; the run is ended', { run: this.run, err: error })
    this.#endSoon('spool_full', 'kill')
  }

  #backpressure(): void {
    const waiting = this.#spool.bytesAfter(this.outbox.acked)
    if (waiting > SPOOL_HARD_BYTES && !this.#full) this.#overflow(new Error(`${waiting} bytes are waiting to be acknowledged`))
    const pause = waiting > SPOOL_SOFT_BYTES
    if (pause === this.#paused) return
    this.#paused = pause
    if (pause) this.#prepared?.process.pause()
    else this.#prepared?.process.resume()
  }

  async #exit(end: TurnEnd): Promise<void> {
    this.#stopTimeout?.()
    const reason = this.#reason ?? (end.result ? 'completed' : 'crashed')
    const mark: ExitMark = {
      kind: 'exit',
      code: end.code,
      signal: end.signal,
      reason,
      ...(this.#message === undefined ? {} : { message: this.#message }),
      ...(end.result ? { result: end.result } : {}),
      ...(end.metered ? { metered: end.metered } : {}),
      duration_ms: this.#startedAt === undefined ? 0 : Math.round(this.#clock.now() - this.#startedAt),
    }
    await this.#keepExit(mark)
    this.#state = 'exited'
    this.#events.changed(this)
  }

  /** The exit is the one mark that must get through: with a full disk it waits for room. */
  async #keepExit(mark: ExitMark): Promise<void> {
    for (;;) {
      try {
        if (this.#missing) this.#spool.mark({ kind: 'gap', reason: 'spool_lost', from: this.#spool.lastTaken + 1, to: null })
        this.#missing = false
        if (this.#cap.dropped > 0) this.#spool.mark({ kind: 'gap', reason: 'log_cap', bytes: this.#cap.dropped })
        this.#cap.told()
        this.#spool.mark(mark)
        await this.#spool.sync()
        return
      } catch (error) {
        // Let go of meanwhile: the router has an end of it, or the next process writes one.
        if (this.#spool.isClosed || this.#spool.hasExit) return
        this.#events.log('the exit of a run cannot be written yet', { run: this.run, err: error })
        await new Promise<void>((resolve) => this.#clock.after(1_000, resolve))
      }
    }
  }
}

/** How an earlier process of the runner left it. */
function leftAs(spool: Spool): Held['state'] {
  if (spool.hasExit) return 'exited'
  return spool.hasStarted ? 'running' : 'accepted'
}
