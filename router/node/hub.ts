/**
 * The hub of one process: a RunnerCore per runner, its socket, and the subscribers of its runs.
 *
 * It carries out what the cores decide, in their order, and decides nothing itself. What a core asked to append is
 * told back to it only when it is on disk.
 */
import type { Context } from 'hono'
import type { EventFrame } from '../../shared/event-frames.ts'
import { Fault } from '../../shared/faults.ts'
import type { Hello, ToRouter, ToRunner } from '../../shared/frames.ts'
import { RunnerCore, type Append, type Effect } from '../core/runner-core.ts'
import type { Dispatch, EventChunk, Log, OnlineRunner, Platform, RunnerHub, RunnerIdentity, RunRef } from '../ports.ts'
import type { HubStore } from '../store/hub-store.ts'
import type { QueuedRow } from '../store/runs.ts'
import { Acks } from './acks.ts'
import type { Attendance } from './attendance.ts'
import type { GroupCommitLog } from './event-log.ts'
import { followLog } from './follow-log.ts'
import { Wakeups } from './wakeups.ts'

/** A connection as the hub uses it. */
export interface RunnerSocket {
  readonly conn: number
  send(message: ToRunner): void
  close(code: number, reason: string): void
}

const TICK_MS = 1_000
type Seat = {
  readonly who: RunnerIdentity
  readonly core: RunnerCore
  readonly acks: Acks
  socket: RunnerSocket | undefined
  /** Reading what the database has of its runs, and whether that is done. */
  restored: Promise<void> | undefined
  known: boolean
}
type Pending = { resolve: () => void; reject: (fault: Fault) => void }
type Accept = (c: Context, who: RunnerIdentity, hub: NodeHub) => Promise<Response>

export class NodeHub implements RunnerHub {
  readonly #store: HubStore
  readonly #eventLog: GroupCommitLog
  readonly #platform: Platform
  readonly #log: Log
  readonly #accept: Accept
  readonly #seats = new Map<string, Seat>()
  readonly #pending = new Map<string, Pending>()
  readonly #wakeups = new Wakeups()
  readonly #attendance: Attendance
  readonly #ticker: NodeJS.Timeout
  readonly #closing = new AbortController()
  /** Set by the waiting line: a slot may have come free, and a run that never started may wait again. */
  onCapacity: () => void = () => undefined
  /** The run's turn is over, here at least: its session is free. */
  onTurnOver: (run: string) => void = () => undefined
  onRequeued: (row: QueuedRow) => void = () => undefined
  #conns = 0

  constructor(parts: { store: HubStore; eventLog: GroupCommitLog; platform: Platform; log: Log; accept: Accept; attendance: Attendance }) {
    this.#store = parts.store
    this.#eventLog = parts.eventLog
    this.#platform = parts.platform
    this.#log = parts.log
    this.#accept = parts.accept
    this.#attendance = parts.attendance
    this.#ticker = setInterval(() => this.#tick(), TICK_MS)
    this.#ticker.unref()
  }

  connect(c: Context, who: RunnerIdentity): Promise<Response> {
    return this.#accept(c, who, this)
  }

  /** After a restart: the runs that a runner is expected to bring back, with the grace running from now. */
  async expect(who: RunnerIdentity): Promise<void> {
    await this.#restore(this.#seat(who))
  }

  dispatch({ run, runner, fence, spec }: Dispatch): Promise<void> {
    const seat = this.#seats.get(runner)
    if (!seat) return Promise.reject(new Fault('no_runner', 'the runner is not connected'))
    return new Promise((resolve, reject) => {
      this.#pending.set(key(run, fence), { resolve, reject })
      this.#perform(seat, seat.core.offer(run, fence, spec, now()))
    })
  }

  async cancel(ref: RunRef): Promise<void> {
    const row = await this.#store.findRun(ref)
    const seat = row?.runner ? this.#seats.get(row.runner) : undefined
    if (row && seat) this.#perform(seat, seat.core.cancel(row.id, row.fence, now()))
  }

  events(ref: RunRef, afterSeq: number, client: AbortSignal): AsyncIterable<EventChunk[]> {
    return followLog(this.#store, this.#wakeups, ref, afterSeq, AbortSignal.any([client, this.#closing.signal]))
  }

  online(tenant: string): Promise<OnlineRunner[]> {
    return Promise.resolve(this.connected(tenant))
  }

  /** Runs of a tenant that hold a slot. */
  underWay(tenant: string): number {
    return [...this.#seats.values()].reduce((sum, { who, core }) => sum + (who.tenant === tenant ? core.busy : 0), 0)
  }

  /** Ends a run that no runner holds. False: somebody else has moved it. */
  async end(append: Append): Promise<boolean> {
    try {
      return (await this.#eventLog.append(append)) === 'durable'
    } finally {
      // Whatever became of it: who watches looks for himself.
      this.#wakeups.wake(append.run)
    }
  }

  attend(ref: RunRef): () => void {
    return this.#attendance.enter(ref)
  }

  connected(tenant: string): OnlineRunner[] {
    return [...this.#seats.values()].flatMap(({ who, core }): OnlineRunner[] => {
      const { hello } = core
      if (!hello || who.tenant !== tenant) return []
      return [
        {
          id: who.runner,
          pool: who.pool,
          labels: hello.labels,
          slots: hello.slots,
          busy: core.busy,
          draining: core.draining,
          provider: hello.provider,
          cliVersion: hello.cli,
          agentVersion: hello.agent,
        },
      ]
    })
  }

  load() {
    const greeted = [...this.#seats.values()].filter(({ core }) => core.hello)
    return Promise.resolve({
      runners: greeted.length,
      slots: greeted.reduce((sum, { core }) => sum + (core.hello?.slots ?? 0), 0),
      busy: greeted.reduce((sum, { core }) => sum + core.busy, 0),
      cliVersion: greeted.find(({ core }) => core.hello?.cli)?.core.hello?.cli ?? null,
    })
  }

  /** A socket that passed authentication. Returns the number of the connection. */
  opened(who: RunnerIdentity, socket: RunnerSocket): number {
    const seat = this.#seat(who)
    const conn = ++this.#conns
    const effects = seat.core.opened(conn, now())
    this.#perform(seat, effects)
    seat.socket = socket
    return conn
  }

  heard(who: RunnerIdentity, conn: number): void {
    this.#seats.get(who.runner)?.core.heard(conn, now())
  }

  /** The first message of a connection; the socket holds back the next one until this is done. */
  async greeted(who: RunnerIdentity, conn: number, hello: Hello): Promise<void> {
    const seat = this.#seat(who)
    // What the old connection delivered must be durable or refused before the runner is told where to go on.
    await this.#eventLog.settled()
    await this.#restore(seat)
    this.#perform(seat, seat.core.greeted(conn, hello, now()))
    this.#log.info({ runner: who.runner, conn, runs: hello.runs.length }, 'runner connected')
    this.#seen(who)
    this.onCapacity()
  }

  message(who: RunnerIdentity, conn: number, message: Exclude<ToRouter, { t: 'hello' } | { t: 'refresh' }>): void {
    const seat = this.#seats.get(who.runner)
    if (seat) this.#perform(seat, seat.core.message(conn, message, now()))
  }

  frame(who: RunnerIdentity, conn: number, frame: EventFrame): void {
    const seat = this.#seats.get(who.runner)
    if (seat) this.#perform(seat, seat.core.events(conn, frame, now()))
  }

  closed(who: RunnerIdentity, conn: number): void {
    const seat = this.#seats.get(who.runner)
    if (!seat) return
    this.#perform(seat, seat.core.closed(conn, now()))
    if (seat.socket?.conn === conn) seat.socket = undefined
    if (seat.core.idle) this.#seats.delete(who.runner)
    this.#log.info({ runner: who.runner, conn }, 'runner disconnected')
    if (!this.#closing.signal.aborted) this.#seen(who)
  }

  /** Every open socket, for the way out. */
  sockets(): RunnerSocket[] {
    return [...this.#seats.values()].flatMap(({ socket }) => (socket ? [socket] : []))
  }

  /** Ends every stream without its `done`: the clients resume elsewhere. */
  close(): void {
    clearInterval(this.#ticker)
    this.#closing.abort()
    for (const { reject } of this.#pending.values()) reject(new Fault('draining'))
    this.#pending.clear()
  }

  #seen(who: RunnerIdentity): void {
    this.#platform.background(this.#store.touchRunner(who.runner, this.#platform.now()))
  }

  #seat(who: RunnerIdentity): Seat {
    let seat = this.#seats.get(who.runner)
    if (!seat) {
      const acks = new Acks((a) => made.socket?.send({ t: 'ack', a }))
      const made: Seat = { who, core: new RunnerCore(now()), acks, socket: undefined, restored: undefined, known: false }
      seat = made
      this.#seats.set(who.runner, seat)
    }
    return seat
  }

  #restore(seat: Seat): Promise<void> {
    if (seat.restored) return seat.restored
    const reading = this.#store.liveRunsOf(seat.who.runner).then((runs) => {
      // A commit failed while it was read: what was read may be older than what was kept.
      if (seat.restored !== reading) return this.#restore(seat)
      this.#perform(seat, seat.core.restore(runs, now()))
      seat.known = true
      return undefined
    })
    seat.restored = reading
    reading.catch(() => {
      if (seat.restored === reading) seat.restored = undefined
    })
    return reading
  }

  #perform(seat: Seat, effects: readonly Effect[]): void {
    for (const effect of effects) {
      switch (effect.do) {
        case 'send':
          seat.socket?.send(effect.message)
          break
        case 'close':
          if (seat.socket?.conn === effect.conn) {
            seat.socket.close(effect.code, effect.reason)
            seat.socket = undefined
          }
          this.#log.warn({ runner: seat.who.runner, code: effect.code, reason: effect.reason }, 'closing the connection of a runner')
          break
        case 'append':
          this.#append(seat, effect.append)
          break
        case 'ack':
          seat.acks.add(effect.entry)
          break
        case 'accepted':
          this.#platform.background(this.#lease(seat, effect))
          break
        case 'refused':
          this.#settle(effect.run, effect.fence, new Fault(effect.code, effect.message))
          this.onCapacity()
          break
        case 'requeue':
          this.#platform.background(this.#requeue(seat, effect))
          break
        case 'wake':
          this.#wakeups.wake(effect.run)
          break
        case 'log':
          this.#log.warn({ runner: seat.who.runner, ...effect.fields }, effect.message)
          break
      }
    }
  }

  #append(seat: Seat, append: Append): void {
    this.#eventLog.append(append).then(
      (outcome) => {
        this.#perform(seat, outcome === 'durable' ? seat.core.committed(append) : seat.core.fencedOut(append))
        if (append.ending || outcome === 'fenced_out') {
          this.onTurnOver(append.run)
          this.onCapacity()
        }
      },
      (error: unknown) => {
        this.#log.error({ err: error, run: append.run }, 'the event log could not write')
        this.#storageFailed(seat)
      },
    )
  }

  async #lease(seat: Seat, { run, fence, cwd }: { run: string; fence: number; cwd: string }): Promise<void> {
    let ok = false
    let fault = new Fault('storage')
    try {
      ok = await this.#store.lease(run, fence, cwd, this.#platform.now())
      fault = new Fault('internal')
    } catch (error) {
      this.#log.error({ err: error, run }, 'a lease could not be written')
    }
    this.#perform(seat, seat.core.leased(run, fence, ok, now()))
    if (fault.code === 'storage') this.#storageFailed(seat)
    this.#settle(run, fence, ok ? undefined : fault)
  }

  async #requeue(seat: Seat, { run, fence }: { run: string; fence: number }): Promise<void> {
    try {
      const row = await this.#store.returnToQueue(run, fence, 'leased')
      this.#perform(seat, row ? seat.core.requeued(run, fence) : seat.core.fencedOut({ run, fence }))
      this.onTurnOver(run)
      if (row) this.onRequeued(row)
      this.onCapacity()
    } catch (error) {
      this.#log.error({ err: error, run }, 'a run could not go back to the queue')
      this.#storageFailed(seat)
    }
  }

  /** An error does not prove that nothing was kept, so what is known of this runner's runs is read anew. */
  #storageFailed(seat: Seat): void {
    seat.restored = undefined
    seat.known = false
    this.#perform(seat, seat.core.storageFailed(now()))
  }

  #settle(run: string, fence: number, fault: Fault | undefined): void {
    const pending = this.#pending.get(key(run, fence))
    this.#pending.delete(key(run, fence))
    return fault ? pending?.reject(fault) : pending?.resolve()
  }

  #tick(): void {
    for (const seat of this.#seats.values()) {
      // Nothing is given up before it is known where its log ends.
      if (!seat.known) this.#restore(seat).catch((error: unknown) => this.#log.error({ err: error }, 'runs could not be read'))
      else this.#perform(seat, seat.core.tick(now()))
      if (seat.core.idle) this.#seats.delete(seat.who.runner)
    }
  }
}

const key = (run: string, fence: number) => `${run}.${fence}`
/** Leases and silences are measured on a clock that nobody can set. */
const now = () => performance.now()
