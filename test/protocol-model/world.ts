/**
 * Everything there is: one router, its ledger, machines with runners, subscribers, and what is wrong at the moment. Steps
 * change it, `heal` ends all trouble and lets what is left come to its end. What breaks an invariant is collected here.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { isTerminal } from '../../router/core/run-state.ts'
import type { Append } from '../../router/core/runner-core.ts'
import type { Outcome } from '../../router/hub/event-log.ts'
import type { EventChunk, RunRow } from '../../router/ports.ts'
import { isBefore } from '../../router/core/intake.ts'
import type { AckEntry, ToRunner } from '../../shared/frames.ts'
import { GRACE_MS } from '../../shared/limits.ts'
import type { Cli, CliEvents } from './cli.ts'
import { disk } from './disk.ts'
import { Ledger, type Row } from './ledger.ts'
import { RouterProcess, TENANT, TIMEOUT_S } from './router.ts'
import { Machine } from './runner.ts'
import { Subscriber } from './subscriber.ts'
import { Time } from './time.ts'
import type { Up, Wire } from './wire.ts'

const [RUNS, SLOTS] = [3, 2] as const
const [MAX_HEAL_ROUNDS, MAX_FLOW_ROUNDS] = [60, 300] as const

/** What a mutant replaces. */
export type Faults = {
  commit(router: object, appends: readonly Append[]): Promise<Outcome[]>
  chunks(row: Row, after: number, maxBytes: number): EventChunk[]
  killed?(machine: Machine): void
  /** A frame of a connection that is not the newest. */
  late?(machine: Machine, frame: Up): boolean
  tick?(): void
  /** A frame on its way into the router. */
  up?(frame: Up): Up
  /** A message of the router on its way to the agent. */
  receives?(machine: Machine, message: ToRunner): void
  /** A frame that the agent has sent. */
  sent?(machine: Machine, frame: string | Uint8Array): void
}

export class Violation extends Error {}

export class World {
  readonly time = new Time()
  readonly violations: string[] = []
  readonly ledger: Ledger
  readonly machines: Machine[] = []
  readonly rows: Row[] = []
  readonly subscribers: Subscriber[] = []
  readonly faults: Faults
  readonly #dir: string
  readonly #only: RegExp
  readonly #printed = new Map<string, Uint8Array[]>()
  readonly #starts = new Map<string, number>()
  #twins = new Set<string>()
  router: RouterProcess | undefined

  constructor(dir: string, mutate: (faults: Faults, world: World) => Faults = (faults) => faults, only = /./) {
    this.#only = only
    this.#dir = dir
    mkdirSync(dir)
    this.ledger = new Ledger({
      violate: this.violate,
      printed: (run) => this.#printed.get(run) ?? [],
      aliveOf: (run) => this.#clis().filter((cli) => cli.alive && cli.started && cli.run === run).length,
      lostWithCause: (row) => this.#lostWithCause(row),
    })
    for (let n = 0; n < RUNS; n++) this.rows.push(this.ledger.add(`run_${String(n).repeat(32)}`))
    this.faults = mutate(
      {
        commit: (router, appends) => this.ledger.write(router, () => this.ledger.commit(appends)),
        chunks: (row, after, maxBytes) => this.ledger.chunks(row, after, maxBytes),
      },
      this,
    )
  }

  readonly violate = (invariant: string, what: string): void => {
    const violation = `${invariant}: ${what}`
    if (this.#only.test(violation)) this.violations.push(violation)
  }

  async begin(): Promise<void> {
    for (const name of ['alpha', 'beta']) this.machines.push(this.#machine(name, name))
    await this.startRouter()
    for (const machine of this.machines) machine.boot()
    await this.settle()
    for (const machine of this.machines) this.connect(machine)
    await this.flow()
  }

  end(): void {
    this.router?.kill(0)
    this.router = undefined
    for (const machine of this.machines) machine.kill(undefined)
    disk.reset()
    rmSync(this.#dir, { recursive: true, force: true })
  }

  check(): void {
    if (this.violations.length > 0) throw new Violation(this.violations.slice(0, 3).join('\n'))
  }

  /** Whatever is under way inside the processes comes to rest; no time passes. */
  async settle(): Promise<void> {
    do {
      await new Promise((resolve) => setImmediate(resolve))
      await new Promise((resolve) => setImmediate(resolve))
    } while (disk.release() || this.ledger.answering > 0)
  }

  /** Frames go to and fro until there are no more. */
  async flow(): Promise<void> {
    for (let round = 0; ; round++) {
      if (round > MAX_FLOW_ROUNDS) return this.violate('I9', 'router and runners never stop talking')
      let busy = false
      for (const machine of this.machines) {
        // The newest connection first: what comes from the others is late.
        const wires = machine.stalled.up ? [] : machine.wires.toReversed()
        for (const wire of wires) busy = this.deliverUp(machine, wire, 1_000) || busy
        if (!machine.stalled.down) busy = machine.deliverDown(1_000) || busy
      }
      await this.settle()
      if (!busy) return
    }
  }

  deliverUp(machine: Machine, wire: Wire, n: number): boolean {
    if (wire.up.length === 0) {
      if (wire !== machine.wire) machine.wires.splice(machine.wires.indexOf(wire), 1)
      return false
    }
    for (const sent of wire.up.splice(0, n)) {
      if (wire.router !== this.router) continue
      const frame = this.faults.up?.(sent) ?? sent
      machine.heard(this.time.now)
      if (wire !== machine.wire && this.faults.late?.(machine, frame)) continue
      if (typeof frame === 'string') wire.inbox!.push(frame)
      else if ('close' in frame) wire.inbox!.closed()
      else wire.inbox!.push(frame.buffer)
    }
    return true
  }

  connect(machine: Machine): void {
    if (this.router?.ready) machine.connect(this.router)
  }

  async advance(ms: number, flowing: boolean): Promise<void> {
    await this.time.advance(ms, () => (flowing ? this.flow() : this.settle()))
    this.faults.tick?.()
  }

  async jump(ms: number): Promise<void> {
    await this.time.jump(ms, () => this.settle())
    this.faults.tick?.()
  }

  async startRouter(): Promise<void> {
    if (this.router) return
    this.router = new RouterProcess(this)
    void this.router.boot(this.machines)
    await this.settle()
  }

  killRouter(kept: number): void {
    if (!this.router) return
    this.time.drop(this.router)
    this.router.kill(kept)
    this.router = undefined
    for (const subscriber of this.subscribers) subscriber.leave()
    for (const wire of this.machines.flatMap(({ wires }) => wires)) wire.cut(0, wire.down.length, { router: false, runner: true })
  }

  /** A copy of a machine's identity is started elsewhere. */
  twin(machine: Machine): void {
    const { runner } = machine.who
    if (this.#twins.has(runner)) return
    this.#twins.add(runner)
    const twin = this.#machine(runner, `${runner}-twin`)
    this.machines.push(twin)
    twin.boot()
  }

  cancel(row: Row): void {
    const { router } = this
    // A router that is not there, or still reads what runs there are, does not listen yet.
    if (!router?.ready || isTerminal(row.state)) return
    row.cancelRequestedAt ??= this.time.now
    if (row.state === 'queued') return this.#endQueued(row)
    // An end that the router heard of before the cancel is an end like any other.
    void router.hub.cancel({ run: row.id, tenant: TENANT }).then(() => {
      const alive = this.running().some((cli) => cli.run === row.id && cli.fence === row.fence)
      row.mustCancel ||= alive && this.router === router
    })
  }

  subscribe(row: Row, after: number): void {
    const subscriber = new Subscriber(row, Math.min(after, row.events.length), this.violate)
    if (row.exit && subscriber.last === row.events.length) return
    this.subscribers.push(subscriber)
    this.listen(subscriber)
  }

  listen(subscriber: Subscriber): void {
    const { router } = this
    if (!router || subscriber.ended) return
    subscriber.connect((run, after, signal) => router.hub.events({ id: run } as RunRow, after, signal))
  }

  running(): Cli[] {
    return this.#clis().filter((cli) => cli.running)
  }

  cliEvents(machine: Machine): CliEvents {
    return {
      started: (cli) => {
        const starts = (this.#starts.get(cli.run) ?? 0) + 1
        this.#starts.set(cli.run, starts)
        if (starts > 1) this.violate('I6', `${cli.run} was started ${starts} times`)
        const row = this.ledger.rows.get(cli.run)!
        // Two of one identity: one may be told to go while the other is asked for the run.
        if (this.#twins.has(machine.who.runner)) return
        if (!machine.hasFreshGo(cli)) this.violate('I6', `${cli.run} was started on a go that was too old`)
        const ours = row.fence === cli.fence && row.runner === machine.who.runner
        if (ours && (row.state === 'leased' || row.state === 'running')) return
        this.violate('I6', `${cli.run} was started under fence ${cli.fence} while it was ${row.state} under ${row.fence}`)
      },
      printed: (cli, line) => {
        const lines = this.#printed.get(cli.run) ?? []
        this.#printed.set(cli.run, lines)
        lines.push(line)
      },
    }
  }

  onRouterSends(data: string): void {
    if (!data.startsWith('{"t":"ack"')) return
    for (const [run, , seq, part] of (JSON.parse(data) as { a: AckEntry[] }).a) {
      const end = this.ledger.end(this.ledger.rows.get(run)!)
      if (isBefore(end, { seq, part })) this.violate('I8', `${run}: ${seq}.${part} was acknowledged, and is not durable`)
    }
  }

  /** No more trouble: every run comes to its end, and nothing is left of it. */
  async heal(): Promise<void> {
    this.ledger.held = false
    this.ledger.slowPages = false
    this.ledger.failing = 'no'
    this.ledger.complete(this.ledger.pending)
    disk.held = false
    disk.full.clear()
    for (const machine of this.machines) {
      machine.congested = false
      machine.prepareMs = 0
      machine.stalled = { up: false, down: false }
      machine.boot()
    }
    await this.settle()
    for (let round = 0; !this.#atRest(); round++) {
      if (round > MAX_HEAL_ROUNDS) return this.violate('I9', `no end in sight: ${this.#unfinished()}`)
      await this.startRouter()
      for (const subscriber of this.subscribers) {
        subscriber.resume()
        if (!subscriber.connected) this.listen(subscriber)
      }
      for (const [i, machine] of this.machines.entries()) {
        // Two of one identity take turns.
        const turn = this.#twins.size === 0 || (i + round) % 3 > 0
        if (!machine.linked && turn) this.connect(machine)
      }
      await this.flow()
      for (const [i, row] of this.rows.entries()) {
        if (row.state === 'queued' && row.cancelRequestedAt !== null) this.#endQueued(row)
        else this.router?.place(row, this.machines[(i + round) % 2]!)
      }
      await this.flow()
      for (const cli of this.running()) {
        cli.print(Buffer.from('{"the":"last"}'))
        cli.finish(true)
      }
      await this.flow()
      await this.advance(1_000, true)
      // What waits for a timer: a ping that is not answered, a grace that ends.
      if (round > 8) await this.jump(round % 2 === 0 ? 20_000 : 61_000)
      this.check()
    }
    this.#checkRest()
  }

  #atRest(): boolean {
    return (
      this.rows.every((row) => isTerminal(row.state)) &&
      this.machines.every(({ agent }) => agent?.idle) &&
      this.#clis().every((cli) => !cli.alive) &&
      this.subscribers.every((subscriber) => subscriber.ended) &&
      this.#underWay() === 0
    )
  }

  #underWay(): number {
    return this.router?.hub.underWay(TENANT) ?? 0
  }

  #unfinished(): string {
    const rows = this.rows.filter((row) => !isTerminal(row.state)).map((row) => `${row.id} is ${row.state}`)
    const busy = this.machines.filter(({ agent }) => !agent?.idle)
    const held = busy.map(({ who, spools }) => `${who.runner} holds ${spools.join(', ')}`)
    const clis = this.#clis().filter((cli) => cli.alive).map((cli) => `a CLI of ${cli.run}.${cli.fence} is alive`)
    const waiting = this.subscribers.filter((s) => !s.ended)
    const subscribers = waiting.map(({ row, last }) => `a subscriber of ${row.id} stands at ${last} of ${row.events.length}`)
    const live = this.#underWay() > 0 ? [`the router has ${this.#underWay()} live runs`] : []
    return [...rows, ...held, ...clis, ...subscribers, ...live].join(', ')
  }

  #checkRest(): void {
    for (const { who, spools } of this.machines) {
      if (spools.length > 0) this.violate('I11', `${who.runner} still has ${spools.join(', ')}`)
    }
    for (const row of this.rows) if (!row.exit) this.violate('I5', `${row.id}: ${row.state} without an exit`)
  }

  #endQueued(row: Row): void {
    const mark = { kind: 'exit', code: null, signal: null, reason: 'cancelled', duration_ms: 0 } as const
    const bytes = new TextEncoder().encode(JSON.stringify(mark))
    const ending = { state: 'cancelled', error: undefined, result: undefined, durationMs: 0, costUsd: 0, provider: undefined } as const
    const rows = [{ first: 1, part: 0, parts: 1, count: 1, kind: 'mark', bytes }] as const
    const append: Append = { run: row.id, fence: row.fence, rows, upTo: { seq: 1, part: 0 }, ending }
    // A database that does not take it leaves the run where it is.
    this.router?.hub.end(append).catch(() => undefined)
  }

  /** A run is given up only for what its machine cannot make good. */
  #lostWithCause(row: Row): boolean {
    const machines = this.machines.filter(({ who }) => who.runner === row.runner)
    if (machines.length > 1 || machines.some(({ powerCut }) => powerCut)) return true
    if (this.ledger.unanswered || row.cancelRequestedAt !== null) return true
    return machines[0]!.silence(this.time.now) >= GRACE_MS || this.time.now >= TIMEOUT_S * 1_000
  }

  #machine(runner: string, folder: string): Machine {
    return new Machine(this, { runner, tenant: TENANT, pool: 'default' }, join(this.#dir, folder), SLOTS)
  }

  #clis(): Cli[] {
    return this.machines.flatMap(({ clis }) => clis)
  }
}
