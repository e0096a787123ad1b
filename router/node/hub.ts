/**
 * The hub of one process: a seat for each runner, and the subscribers of their runs.
 */
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import type { Append } from '../core/runner-core.ts'
import type { Attendance } from '../hub/attendance.ts'
import type { ConfigSource } from '../hub/config-sync.ts'
import type { GroupCommitLog } from '../hub/event-log.ts'
import { followLog, LogCursor } from '../hub/follow-log.ts'
import { Seat, type RunnerSocket } from '../hub/seat.ts'
import type { SeatParts } from '../hub/seat-parts.ts'
import { Wakeups } from '../hub/wakeups.ts'
import type { Cursor, Dispatch, Log, OnlineRunner, Page, Platform, RunnerHub, RunnerIdentity, RunRef, RunRow, Treasury } from '../ports.ts'
import type { HubStore } from '../store/hub-store.ts'
import type { RunnerMark } from '../store/runners.ts'
import type { QueuedRow } from '../store/runs.ts'

const TICK_MS = 1_000

export interface HubParts {
  readonly store: HubStore
  readonly eventLog: GroupCommitLog
  readonly treasury: Treasury
  readonly config: ConfigSource
  readonly platform: Platform
  readonly log: Log
  readonly attendance: Attendance
  readonly accept: (c: Context, seat: () => Seat) => Promise<Response>
}

export class NodeHub implements RunnerHub {
  readonly #parts: HubParts
  readonly #seatParts: SeatParts
  readonly #seats = new Map<string, Seat>()
  readonly #wakeups = new Wakeups()
  readonly #ticker: NodeJS.Timeout
  #closed = false
  /** Set by whoever keeps the waiting line: a slot may have come free, and a run that never started may wait again. */
  onCapacity: () => void = () => undefined
  onTurnOver: (run: string) => void = () => undefined
  onRequeued: (row: QueuedRow) => void = () => undefined
  /** A runner came or went. */
  onPresence: (seat: Seat) => void = () => undefined

  constructor(parts: HubParts) {
    this.#parts = parts
    const { store, eventLog, treasury, config, platform, log } = parts
    this.#seatParts = {
      store,
      eventLog,
      treasury,
      config,
      platform,
      log,
      durable: ({ run, rows }) => this.#wakeups.handOver(run, rows),
      wake: (run) => this.#wakeups.wake(run),
      // A clock that nobody can set.
      now: () => performance.now(),
      on: {
        capacity: () => this.onCapacity(),
        turnOver: (run) => this.onTurnOver(run),
        requeued: (row) => this.onRequeued(row),
        presence: (seat) => !this.#closed && this.onPresence(seat),
      },
    }
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
    this.#ticker.unref()
  }

  connect(c: Context, who: RunnerIdentity): Promise<Response> {
    this.seat(who).cordon(who.drained ?? false)
    return this.#parts.accept(c, () => this.seat(who))
  }

  /** After a restart: the runs that a runner is expected to bring back, with the grace running from now. */
  expect(who: RunnerIdentity): Promise<void> {
    return this.seat(who).restore()
  }

  dispatch(d: Dispatch): Promise<void> {
    const seat = this.#seats.get(d.runner)
    return seat ? seat.dispatch(d) : Promise.reject(new Fault('no_runner', 'the runner is not connected'))
  }

  async cancel(ref: RunRef): Promise<void> {
    const row = await this.#parts.store.findRun(ref)
    if (row?.runner) this.#seats.get(row.runner)?.cancel(row.id, row.fence)
  }

  follow({ id }: RunRow, afterSeq: number, wake: () => void): Cursor {
    return new LogCursor({ store: this.#parts.store, wakeups: this.#wakeups }, id, afterSeq, wake)
  }

  events({ id }: RunRow, afterSeq: number, client: AbortSignal): AsyncIterable<Page> {
    return followLog({ store: this.#parts.store, wakeups: this.#wakeups }, id, afterSeq, client)
  }

  online(tenant: string): Promise<OnlineRunner[]> {
    return Promise.resolve(this.connected(tenant))
  }

  /** Runs of a tenant that hold a slot. */
  underWay(tenant: string): number {
    let busy = 0
    for (const { who, core } of this.#seats.values()) if (who.tenant === tenant) busy += core.busy
    return busy
  }

  /** Ends a run that no runner holds. False: somebody else has moved it. */
  async end(append: Append): Promise<boolean> {
    try {
      const outcome = await this.#parts.eventLog.append(append)
      if (outcome === 'durable') this.#wakeups.handOver(append.run, append.rows)
      return outcome === 'durable'
    } finally {
      // Whatever became of it: who watches looks for himself.
      this.#wakeups.wake(append.run)
    }
  }

  drain(runner: string, on: boolean): Promise<void> {
    this.#seats.get(runner)?.cordon(on)
    return Promise.resolve()
  }

  revoke(runner: string): Promise<void> {
    this.#seats.get(runner)?.revoke()
    return Promise.resolve()
  }

  configChanged(tenant: string, pool: string): Promise<void> {
    for (const seat of this.#seats.values()) if (seat.who.tenant === tenant && seat.who.pool === pool) seat.configChanged()
    return Promise.resolve()
  }

  /** All that admins want of any runner, by way of another replica perhaps: of those that are not marked nothing, or no longer. */
  heed(marked: readonly RunnerMark[]): void {
    const marks = new Map(marked.map((mark) => [mark.id, mark]))
    for (const seat of this.#seats.values()) {
      if (!seat.socket) continue
      const { drainedAt = null, revokedAt = null } = marks.get(seat.who.runner) ?? {}
      if (revokedAt === null) seat.cordon(drainedAt !== null)
      else seat.revoke()
    }
  }

  attend(ref: RunRef): () => void {
    return this.#parts.attendance.enter(ref)
  }

  /** Asked for each run that is to be placed, with as many runners as there are: one object for each is enough. */
  connected(tenant: string): OnlineRunner[] {
    const runners: OnlineRunner[] = []
    for (const seat of this.#seats.values()) {
      const online = seat.who.tenant === tenant ? seat.online : undefined
      if (online) runners.push(online)
    }
    return runners
  }

  load() {
    const online = [...this.#seats.values()].flatMap((seat) => seat.online ?? [])
    return Promise.resolve({
      runners: online.length,
      slots: online.reduce((sum, { slots }) => sum + slots, 0),
      busy: online.reduce((sum, { busy }) => sum + busy, 0),
      cliVersion: online.find(({ cliVersion }) => cliVersion)?.cliVersion ?? null,
    })
  }

  /** Every open socket, for the way out. */
  sockets(): RunnerSocket[] {
    return [...this.#seats.values()].flatMap(({ socket }) => socket ?? [])
  }

  /** Ends every stream without its `done`: the clients resume elsewhere. */
  close(): void {
    clearInterval(this.#ticker)
    this.#closed = true
    this.#wakeups.close()
    for (const seat of this.#seats.values()) seat.abandon(new Fault('draining'))
  }

  seat(who: RunnerIdentity): Seat {
    const known = this.#seats.get(who.runner)
    if (known) return known
    const seat = new Seat(who, this.#seatParts)
    this.#seats.set(who.runner, seat)
    return seat
  }

  #tick(): void {
    const now = this.#seatParts.now()
    for (const seat of this.#seats.values()) {
      seat.tick(now)
      if (seat.core.idle) this.#seats.delete(seat.who.runner)
    }
  }
}
