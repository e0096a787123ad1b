/** A machine with a runner: its spools, its CLI processes, its clock, and the process of the real Agent that may be killed. */
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Agent } from '../../runner/agent.ts'
import type { Transport } from '../../runner/sender.ts'
import { Inbox } from '../../router/hub/inbox.ts'
import { Fault } from '../../shared/faults.ts'
import { decodeToRunner, type Offer, type ToRunner } from '../../shared/frames.ts'
import { LEASE_MS, PING_MS } from '../../shared/limits.ts'
import type { RunnerIdentity } from '../../router/ports.ts'
import { Cli } from './cli.ts'
import { Credit } from './credit.ts'
import { disk } from './disk.ts'
import type { RouterProcess } from './router.ts'
import { Wire } from './wire.ts'
import type { World } from './world.ts'

type Lease = Extract<ToRunner, { t: 'lease' }>

const MISSED_PONGS = 2
const TOKEN_TTL_MS = 900_000

export class Machine {
  readonly who: RunnerIdentity
  readonly dir: string
  readonly #world: World
  readonly #slots: number
  readonly wires: Wire[] = []
  clis: Cli[] = []
  agent: Agent | undefined
  ready = false
  /** How long a CLI takes to be ready for its prompt. */
  prepareMs = 0
  /** Frames back up in the socket. */
  congested = false
  sleptMs = 0
  /** The power was cut while spools were not synced. */
  powerCut = false
  /** When a frame from here last reached a router, and the longest that none did. */
  heardAt = 0
  longestSilenceMs = 0
  lastOffer: string | undefined
  /** Its frames wait, in one direction or the other. */
  stalled = { up: false, down: false }
  readonly #sentAt = new Map<string, { now: number; sleptMs: number }>()
  readonly #gos = new Set<string>()
  #process = {}
  #wire: Wire | undefined
  #credit: Credit

  constructor(world: World, who: RunnerIdentity, dir: string, slots: number) {
    this.#world = world
    this.who = who
    this.dir = dir
    this.#slots = slots
    this.#credit = new Credit(world.violate)
    mkdirSync(dir)
  }

  get linked(): boolean {
    return this.#wire !== undefined
  }

  get wire(): Wire | undefined {
    return this.#wire
  }

  boot(): void {
    if (this.agent) return
    const { time } = this.#world
    const me = {}
    this.#process = me
    const agent = new Agent({
      clock: {
        now: () => time.now,
        wall: () => time.now + this.sleptMs,
        after: (ms, call) => {
          const timer = time.after(ms, call, me)
          return () => time.cancel(timer)
        },
      },
      spoolDir: this.dir,
      slots: this.#slots,
      labels: {},
      provider: 'local',
      cliVersion: '0.0.0-model',
      os: 'model',
      prepare: (offer, marker, signal) => this.#prepare(me, offer, marker, signal),
      sweep: (marker) => {
        const found = this.clis.filter((cli) => cli.alive && cli.marker === marker)
        for (const cli of found) cli.die('SIGKILL')
        return Promise.resolve(found.length)
      },
      diskFree: () => 1e9,
      load: () => 0,
      log: () => undefined,
    })
    this.agent = agent
    agent.recover().then(
      () => {
        if (this.#process === me) this.ready = true
      },
      // It cannot go on without its spools: the process ends, and is started again.
      () => {
        if (this.#process === me) this.kill(undefined)
      },
    )
  }

  /** kill -9; with `kept` the power goes, and of what was not synced that share stays on the disk. */
  kill(kept: number | undefined): void {
    if (!this.agent) return
    this.#world.time.drop(this.#process)
    this.#process = {}
    this.agent = undefined
    this.ready = false
    for (const cli of this.clis) {
      cli.orphan()
      if (kept !== undefined) cli.die('SIGKILL')
    }
    if (kept !== undefined) this.powerCut = true
    disk.crash(`${this.dir}/`, kept)
    this.#wire?.cut(this.#wire.up.length, 0, { router: kept === undefined, runner: false })
    this.#wire = undefined
    this.#world.faults.killed?.(this)
  }

  connect(router: RouterProcess): void {
    const { agent } = this
    if (!agent || !this.ready) return
    const wire = new Wire(router)
    // The old link, if there was one, is terminated before the next is dialled.
    this.#wire?.toRouter({ close: 1006 })
    this.wires.push(wire)
    wire.inbox = new Inbox({
      seat: () => router.hub.seat(this.who),
      refresh: () => Promise.reject(new Error('no tokens here')),
      log: router.log,
      now: () => performance.now(),
    })
    const toRunner = (data: string) => {
      this.#world.onRouterSends(data)
      wire.toRunner(data)
    }
    wire.inbox.open({ send: toRunner, close: (code) => wire.toRunner({ close: code }) }, TOKEN_TTL_MS)
    this.#wire = wire
    this.#credit = new Credit(this.#world.violate)
    this.#sentAt.clear()
    const transport: Transport = {
      send: (data) => {
        this.#credit.sent(data)
        this.#noteSent(data)
        wire.toRouter(data)
        this.#world.faults.sent?.(this, data)
      },
      buffered: 0,
    }
    // In proportion to what the real limit is to the scaled sizes.
    const buffered = () => (this.congested ? wire.waitingBytes * 1_024 : 0)
    agent.connected(Object.defineProperty(transport, 'buffered', { get: buffered }))
    this.#ping(wire, 0)
  }

  /** A lease of the run was young by both clocks when it arrived: neither a slow way nor a sleep lay in between. */
  hasFreshGo({ run, fence }: Cli): boolean {
    return this.#gos.has(`${run}.${fence}`)
  }

  #noteSent(data: string | Uint8Array): void {
    if (typeof data !== 'string') return
    const { t, re, id, run, fence } = JSON.parse(data) as { t: string; re?: string; id?: string; run?: string; fence?: number }
    const isKept = t !== 'accept' || disk.syncedBytes(join(this.dir, `${run}.${fence}.spool`)) > 0
    if (!isKept) this.#world.violate('I8', `${run} was accepted before its intent was on the disk`)
    const name = t === 'hello' ? 'hello' : t === 'accept' ? re : t === 'hb' ? id : undefined
    if (name !== undefined) this.#sentAt.set(name, { now: this.#world.time.now, sleptMs: this.sleptMs })
  }

  #noteLease({ re, l }: Lease): void {
    const sent = this.#sentAt.get(re.startsWith('hello') ? 'hello' : re)
    const fresh = sent !== undefined && this.#world.time.now - sent.now < LEASE_MS / 2 && this.sleptMs - sent.sleptMs < LEASE_MS
    if (fresh) for (const [run, fence] of l) this.#gos.add(`${run}.${fence}`)
  }

  heard(now: number): void {
    this.longestSilenceMs = this.silence(now)
    this.heardAt = now
  }

  silence(now: number): number {
    return Math.max(this.longestSilenceMs, now - this.heardAt)
  }

  deliverDown(n: number): boolean {
    const wire = this.#wire
    if (!wire || wire.down.length === 0) return false
    for (let i = 0; i < n && this.#wire === wire; i++) {
      const frame = wire.down.shift()
      if (frame === undefined) break
      if (typeof frame !== 'string') this.unlink()
      else if (frame !== 'pong') this.#receive(frame)
      this.#unanswered = 0
    }
    return true
  }

  #unanswered = 0

  /** The runner's end of the link is over. */
  unlink(): void {
    this.#wire = undefined
    this.agent?.disconnected()
  }

  get spools(): string[] {
    return readdirSync(this.dir)
  }

  #receive(frame: string): void {
    const decoded = decodeToRunner(frame)
    if (!decoded.ok) return this.#world.violate('wire', `the router sent ${frame}`)
    const { message } = decoded
    if (message.t === 'offer') this.lastOffer = frame
    if (message.t === 'lease') this.#noteLease(message)
    if (message.t === 'ack') this.#credit.acked(message.a)
    if (message.t === 'forget' || message.t === 'revoke') this.#credit.dropped(message.run)
    if (message.t !== 'token' && message.t !== 'goaway') this.agent?.receive(message)
    this.#world.faults.receives?.(this, message)
  }

  #ping(wire: Wire, unanswered: number): void {
    this.#unanswered = unanswered
    this.#world.time.after(
      PING_MS,
      () => {
        if (this.#wire !== wire) return
        if (this.#unanswered >= MISSED_PONGS) {
          wire.toRouter({ close: 1006 })
          return this.unlink()
        }
        wire.toRouter('ping')
        this.#ping(wire, this.#unanswered + 1)
      },
      this.#process,
    )
  }

  spawn({ run, fence }: Offer, marker: string): Cli {
    const cli = new Cli({ run, fence, marker, time: this.#world.time, events: this.#world.cliEvents(this) })
    this.clis.push(cli)
    return cli
  }

  async #prepare(process: object, offer: Offer, marker: string, signal: AbortSignal) {
    const { time } = this.#world
    const cli = this.spawn(offer, marker)
    if (this.prepareMs > 0) {
      await new Promise<void>((resolve) => {
        time.after(this.prepareMs, resolve, process)
        signal.addEventListener('abort', () => resolve(), { once: true })
      })
    }
    if (signal.aborted) {
      await cli.cancel('kill')
      throw new Fault('start_by', 'the offer was withdrawn')
    }
    return { process: cli, cwd: '/work', provider: 'local', dispose: () => Promise.resolve() }
  }
}
