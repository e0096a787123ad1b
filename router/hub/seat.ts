/**
 * One runner's place at the router: its core, its connection, and who waits for its answers.
 *
 * It carries out what the core decides, in that order, and decides nothing itself. What the core asked to append is told
 * back to it only when it is durable. Hosts differ in how many seats share a process, and in what they keep beside it.
 */
import type { EventFrame } from '../../shared/event-frames.ts'
import { Fault } from '../../shared/faults.ts'
import { CLOSE, type Hello, type ToRouter } from '../../shared/frames.ts'
import type { Home } from '../core/effects.ts'
import { RunnerCore, type Append, type Effect } from '../core/runner-core.ts'
import { asFault } from '../guard/problem.ts'
import type { Dispatch, OnlineRunner, RunnerIdentity } from '../ports.ts'
import type { RunnerRow } from '../store/runners.ts'
import { Acks } from './acks.ts'
import { ConfigSync } from './config-sync.ts'
import { Unwritable } from './event-log.ts'
import type { RunnerSocket, SeatParts } from './seat-parts.ts'

export type { RunnerSocket } from './seat-parts.ts'

type Pending = { resolve: () => void; reject: (fault: Fault) => void }

export class Seat {
  readonly who: RunnerIdentity
  readonly core: RunnerCore
  readonly config: ConfigSync
  readonly #parts: SeatParts
  /** Made when there is something to say or to wait for, like all that an idle runner can be without. */
  #acks: Acks | undefined
  #pending: Map<string, Pending> | undefined
  #socket: RunnerSocket | undefined
  /** Reading what the store has of its runs, and whether that is done. */
  #restored: Promise<void> | undefined
  #known = false
  #conns = 0
  /** An admin wants it to take nothing new, whatever it says itself. */
  #cordoned = false

  /** `conns`: the number of the newest connection that it ever had; `offlineSince`: since when it has had none. */
  constructor(who: RunnerIdentity, parts: SeatParts, { conns = 0, offlineSince = parts.now() } = {}) {
    this.who = who
    this.#parts = parts
    this.#conns = conns
    this.core = new RunnerCore(offlineSince)
    this.config = new ConfigSync(this, parts.config, parts.on.configStands)
  }

  get socket(): RunnerSocket | undefined {
    return this.#socket
  }

  /** What it says of itself, and what it has to do; undefined without a connection that said hello. */
  get online(): OnlineRunner | undefined {
    const { hello } = this.core
    if (!hello) return undefined
    return {
      id: this.who.runner,
      pool: this.who.pool,
      labels: hello.labels,
      slots: hello.slots,
      busy: this.core.busy,
      draining: this.core.draining || this.#cordoned,
      ...(hello.policy ? { policy: hello.policy } : {}),
      provider: hello.provider,
      cliVersion: hello.cli,
      agentVersion: hello.agent,
      ...(this.config.has ? { config: this.config.has } : {}),
    }
  }

  /** What the runner's row has to say of it. */
  get hint(): RunnerRow['online'] {
    const { hello } = this.core
    if (!hello) return null
    const { slots, cli, agent, policy } = hello
    return { slots, cli, agent, ...(policy ? { policy } : {}) }
  }

  /** A socket that passed authentication. Returns the number of the connection. */
  opened(socket: RunnerSocket): number {
    const conn = ++this.#conns
    this.perform(this.core.opened(conn, this.#parts.now()))
    this.#socket = socket
    return conn
  }

  /** A connection that outlived the memory of its host. */
  reopened(socket: RunnerSocket): void {
    this.#socket = socket
  }

  cordon(on: boolean): void {
    if (this.#cordoned === on) return
    this.#cordoned = on
    this.#parts.on.presence(this)
    if (!on) this.#parts.on.capacity()
  }

  /** It is none of ours any more: its connection ends, and its runs are given up after their grace. */
  revoke(): void {
    const conn = this.#socket?.conn
    if (conn === undefined) return
    this.perform([{ do: 'close', conn, code: CLOSE.revoked, reason: 'the runner was revoked' }, ...this.core.closed(conn, this.#parts.now())])
  }

  heard(conn: number, at = this.#parts.now()): void {
    this.core.heard(conn, at)
  }

  /** The first message of a connection; the socket holds back the next one until this is done. */
  async greeted(conn: number, hello: Hello): Promise<void> {
    const { eventLog, log, now, on } = this.#parts
    // What the old connection delivered must be durable or refused before the runner is told where to go on.
    await eventLog.settled()
    await this.restore()
    this.perform(this.core.greeted(conn, hello, now()))
    log.info({ runner: this.who.runner, conn, runs: hello.runs.length }, 'runner connected')
    on.presence(this)
    on.capacity()
    this.configChanged()
  }

  message(conn: number, message: Exclude<ToRouter, { t: 'hello' } | { t: 'refresh' }>): void {
    this.perform(this.core.message(conn, message, this.#parts.now()))
    if (message.t === 'drain') this.#parts.on.presence(this)
    if (message.t === 'configured') this.config.heard(conn, message)
  }

  /** So that a runner has new files before its next run, whose offer would wait for them. */
  configChanged(): void {
    const { platform, log } = this.#parts
    const told = this.config.sync().catch((error: unknown) => log.warn({ err: error, runner: this.who.runner }, 'config files could not be sent; they are with the next run'))
    platform.background(told)
  }

  frame(conn: number, frame: EventFrame): void {
    this.perform(this.core.events(conn, frame, this.#parts.now()))
  }

  closed(conn: number): void {
    this.perform(this.core.closed(conn, this.#parts.now()))
    if (this.#socket?.conn === conn) this.#socket = undefined
    this.#parts.log.info({ runner: this.who.runner, conn }, 'runner disconnected')
    this.#parts.on.presence(this)
  }

  /** Resolves once the runner accepted and the lease is durable; throws the fault of a refusal. */
  dispatch({ run, fence, spec }: Pick<Dispatch, 'run' | 'fence' | 'spec'>): Promise<void> {
    if (this.#cordoned) return Promise.reject(new Fault('draining', 'an admin has the runner take no new runs'))
    return new Promise((resolve, reject) => {
      ;(this.#pending ??= new Map()).set(key(run, fence), { resolve, reject })
      this.perform(this.core.offer(run, fence, spec, this.#parts.now()))
    })
  }

  cancel(run: string, fence: number): void {
    this.perform(this.core.cancel(run, fence, this.#parts.now()))
  }

  /** Whatever is due by now. Nothing is given up before it is known where its log ends. */
  tick(now = this.#parts.now()): void {
    this.#socket?.tick(now)
    if (this.#known) this.perform(this.core.tick(now))
    else this.restore().catch((error: unknown) => this.#parts.log.error({ err: error }, 'runs could not be read'))
  }

  /** Takes up the runs that the store has of it, with their grace running from now. */
  restore(): Promise<void> {
    if (this.#restored) return this.#restored
    const reading = this.#parts.store.liveRunsOf(this.who.runner).then((runs) => {
      // A commit failed while it was read: what was read may be older than what was kept.
      if (this.#restored !== reading) return this.restore()
      this.perform(this.core.restore(runs, this.#parts.now()))
      this.#known = true
      return undefined
    })
    this.#restored = reading
    reading.catch(() => {
      if (this.#restored === reading) this.#restored = undefined
    })
    return reading
  }

  /** Nobody hears of his run from here any more. */
  abandon(fault: Fault): void {
    for (const { reject } of this.#pending?.values() ?? []) reject(fault)
    this.#pending?.clear()
  }

  perform(effects: readonly Effect[]): void {
    const { log, on, platform, wake } = this.#parts
    for (const effect of effects) {
      switch (effect.do) {
        case 'send':
          this.#socket?.send(effect.message)
          break
        case 'offer':
          platform.background(this.#offer(effect))
          break
        case 'report':
          this.#parts.treasury.report(this.who.tenant, effect.report)
          break
        case 'close':
          if (this.#socket?.conn === effect.conn) {
            this.#socket.close(effect.code, effect.reason)
            this.#socket = undefined
          }
          log.warn({ runner: this.who.runner, code: effect.code, reason: effect.reason }, 'closing the connection of a runner')
          on.presence(this)
          break
        case 'append':
          this.#append(effect.append)
          break
        case 'ack':
          ;(this.#acks ??= new Acks((a) => this.#socket?.send({ t: 'ack', a }))).add(effect.entry)
          break
        case 'accepted':
          platform.background(this.#lease(effect))
          break
        case 'refused':
          this.#parts.treasury.over({ run: effect.run, tenant: this.who.tenant })
          this.#settle(effect.run, effect.fence, new Fault(effect.code, effect.message))
          on.capacity()
          break
        case 'requeue':
          platform.background(this.#requeue(effect))
          break
        case 'wake':
          wake(effect.run)
          break
        case 'over':
          this.#over(effect.run)
          break
        case 'log':
          log.warn({ runner: this.who.runner, ...effect.fields }, effect.message)
          break
      }
    }
  }

  /** The slot is taken already. A connection that is gone meanwhile took the offer with it. */
  async #offer({ conn, message }: Extract<Effect, { do: 'offer' }>): Promise<void> {
    const { run, fence, spec } = message
    const { tenant, runner } = this.who
    const { hello } = this.core
    // It left while this was on its way.
    if (!hello) return
    try {
      const payee = { ...this.who, provider: hello.provider, policy: hello.policy }
      // A run finds the files of its pool as they were when it was offered, or later.
      const [grants] = await Promise.all([this.#parts.treasury.grants({ run, tenant, runner, fence, spec }, payee), this.config.sync()])
      // Withdrawn meanwhile, it would only have a CLI started in vain.
      if (this.#socket?.conn === conn && this.core.knows(run, fence)) this.#socket.send(grants ? { ...message, grants } : message)
    } catch (error) {
      const fault = asFault(error)
      if (fault.code === 'internal') this.#parts.log.error({ err: error, run }, 'what a run needs could not be found out')
      this.perform(this.core.withdrawn(run, fence, fault.code, fault.message))
    }
  }

  #append(append: Append): void {
    const { eventLog, log } = this.#parts
    eventLog.append(append).then(
      (outcome) => {
        if (outcome === 'durable') this.#parts.durable?.(append)
        this.perform(outcome === 'durable' ? this.core.committed(append) : this.core.fencedOut(append))
        if (append.ending || outcome === 'fenced_out') this.#over(append.run)
      },
      (error: unknown) => {
        log.error({ err: error, run: append.run }, 'the event log could not write')
        if (error instanceof Unwritable) this.perform(this.core.unwritable(append))
        else this.#storageFailed()
      },
    )
  }

  /** Its reservation, its session and its slot are free. */
  #over(run: string): void {
    const { treasury, on } = this.#parts
    treasury.over({ run, tenant: this.who.tenant })
    on.turnOver(run)
    on.capacity()
  }

  async #lease({ run, fence, home }: { run: string; fence: number; home: Home }): Promise<void> {
    const { store, platform, log, now } = this.#parts
    let ok = false
    let fault = new Fault('storage')
    try {
      ok = await store.lease(run, fence, home, platform.now())
      fault = new Fault('start_by', 'the run was taken back before its lease')
    } catch (error) {
      log.error({ err: error, run }, 'a lease could not be written')
    }
    if (ok) this.#parts.treasury.begun({ run, tenant: this.who.tenant })
    this.perform(this.core.leased(run, fence, ok, now()))
    if (fault.code === 'storage') this.#storageFailed()
    this.#settle(run, fence, ok ? undefined : fault)
  }

  async #requeue({ run, fence }: { run: string; fence: number }): Promise<void> {
    const { store, log, on } = this.#parts
    try {
      const row = await store.returnToQueue(run, fence, 'leased')
      // It was asked for again meanwhile, and that answer came first.
      if (!this.core.knows(run, fence)) return
      this.#parts.treasury.over({ run, tenant: this.who.tenant })
      this.perform(row ? this.core.requeued(run, fence) : this.core.fencedOut({ run, fence }))
      on.turnOver(run)
      if (row) on.requeued(row)
      on.capacity()
    } catch (error) {
      log.error({ err: error, run }, 'a run could not go back to the queue')
      this.#storageFailed()
    }
  }

  /** An error does not prove that nothing was kept, so what is known of this runner's runs is read anew. */
  #storageFailed(): void {
    this.#restored = undefined
    this.#known = false
    this.perform(this.core.storageFailed(this.#parts.now()))
  }

  #settle(run: string, fence: number, fault: Fault | undefined): void {
    const pending = this.#pending?.get(key(run, fence))
    this.#pending?.delete(key(run, fence))
    return fault ? pending?.reject(fault) : pending?.resolve()
  }
}

const key = (run: string, fence: number) => `${run}.${fence}`
