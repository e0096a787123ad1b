/** What may happen next, and how a schedule of it is made and run. */
import * as fc from 'fast-check'
import { disk } from './disk.ts'
import type { Faults, World } from './world.ts'
import { World as NewWorld } from './world.ts'

export type Step =
  | { do: 'flow' }
  | { do: 'place'; run: number; machine: number }
  | { do: 'print'; cli: number; bytes: number }
  | { do: 'finish'; cli: number; withResult: boolean }
  | { do: 'up' | 'down'; machine: number; n: number }
  /** Frames of an old connection. */
  | { do: 'late'; machine: number }
  | { do: 'cut'; machine: number; keepUp: number; keepDown: number; router: boolean; runner: boolean }
  | { do: 'connect'; machine: number }
  | { do: 'stall'; machine: number; up: boolean; down: boolean }
  | { do: 'reoffer'; machine: number }
  | { do: 'killRunner'; machine: number; powerCut: boolean; kept: number }
  | { do: 'boot'; machine: number }
  | { do: 'twin'; machine: number }
  | { do: 'slow'; machine: number; prepareMs: number; congested: boolean }
  | { do: 'killRouter'; kept: number }
  | { do: 'startRouter' }
  | { do: 'database'; held: boolean; slowPages: boolean; failing: 'no' | 'clean' | 'ambiguous' }
  | { do: 'commit'; n: number }
  | { do: 'sync'; held: boolean }
  | { do: 'full'; machine: number; full: boolean }
  | { do: 'cancel'; run: number }
  | { do: 'time'; ms: number; flowing: boolean }
  | { do: 'jump'; ms: number }
  | { do: 'sleep'; machine: number; ms: number }
  | { do: 'subscribe'; run: number; after: number }
  | { do: 'leave' | 'stallReader' | 'listen'; subscriber: number }

export async function take(world: World, step: Step): Promise<void> {
  const { ledger, router } = world
  const machine = 'machine' in step ? world.machines[step.machine % world.machines.length]! : undefined!
  const row = 'run' in step ? world.rows[step.run % world.rows.length]! : undefined!
  const running = 'cli' in step ? world.running() : []
  const cli = 'cli' in step && running.length > 0 ? running[step.cli % running.length] : undefined
  const subscriber = 'subscriber' in step ? world.subscribers[step.subscriber % world.subscribers.length] : undefined
  switch (step.do) {
    case 'flow':
      await world.flow()
      break
    case 'place':
      if (row.cancelRequestedAt === null) router?.place(row, machine)
      break
    case 'print':
      cli?.print(Buffer.alloc(step.bytes, `${world.time.now} ${step.bytes} `))
      break
    case 'finish':
      cli?.finish(step.withResult)
      break
    case 'up':
      if (machine.wire) world.deliverUp(machine, machine.wire, step.n)
      break
    case 'down':
      machine.deliverDown(step.n)
      break
    case 'late':
      for (const wire of machine.wires.filter((w) => w !== machine.wire)) world.deliverUp(machine, wire, 1)
      break
    case 'cut': {
      const { wire } = machine
      wire?.cut(step.keepUp, step.keepDown, step)
      if (wire && step.runner) machine.unlink()
      break
    }
    case 'connect':
      world.connect(machine)
      break
    case 'stall':
      machine.stalled = step
      break
    case 'reoffer':
      if (machine.lastOffer !== undefined) machine.wire?.toRunner(machine.lastOffer)
      break
    case 'killRunner':
      machine.kill(step.powerCut ? step.kept : undefined)
      break
    case 'boot':
      machine.boot()
      await world.settle()
      world.connect(machine)
      break
    case 'twin':
      world.twin(machine)
      break
    case 'slow':
      machine.prepareMs = step.prepareMs
      machine.congested = step.congested
      break
    case 'killRouter':
      world.killRouter(step.kept)
      break
    case 'startRouter':
      await world.startRouter()
      break
    case 'database':
      ledger.held = step.held
      ledger.slowPages = step.slowPages
      ledger.failing = step.failing
      if (!step.held) ledger.complete(ledger.pending)
      break
    case 'commit':
      ledger.complete(step.n)
      break
    case 'sync':
      disk.held = step.held
      break
    case 'full':
      if (step.full) disk.full.add(machine.dir)
      else disk.full.delete(machine.dir)
      break
    case 'cancel':
      world.cancel(row)
      break
    case 'time':
      await world.advance(step.ms, step.flowing)
      break
    case 'jump':
      await world.jump(step.ms)
      break
    case 'sleep':
      machine.sleptMs += step.ms
      break
    case 'subscribe':
      world.subscribe(row, step.after)
      break
    case 'leave':
      subscriber?.leave()
      break
    case 'stallReader':
      subscriber?.stall()
      break
    case 'listen':
      if (subscriber) world.listen(subscriber)
      break
  }
  await world.settle()
  world.check()
}

let worlds = 0

export type Play = {
  /** Makes the world's time that of the globals. */
  install: (world: World) => void
  mutate?: ((faults: Faults, world: World) => Faults) | undefined
  /** Violations that count; all, if it is not said. */
  only?: RegExp | undefined
}

/** Throws the first violation; whoever fails leaves nothing behind either. */
export async function play(steps: readonly Step[], dir: string, { install, mutate, only }: Play): Promise<void> {
  const world = new NewWorld(`${dir}/${++worlds}`, mutate, only)
  install(world)
  try {
    await world.begin()
    for (const step of steps) await take(world, step)
    await world.heal()
    world.check()
  } finally {
    world.end()
  }
}

const index = fc.nat(5)
const bytes = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 1, max: 200 }) },
  { weight: 3, arbitrary: fc.integer({ min: 200, max: 520 }) },
  { weight: 3, arbitrary: fc.integer({ min: 512, max: 2_500 }) },
  { weight: 1, arbitrary: fc.integer({ min: 2_500, max: 7_000 }) },
)
const small = fc.nat(3)
const ms = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(16, 1_000, 5_000) }, { weight: 2, arbitrary: fc.constantFrom(10_500, 16_000, 31_000) })
const step = (weight: number, arbitrary: fc.Arbitrary<Step>) => ({ weight, arbitrary })
const just = (s: Step) => fc.constant(s)

export const steps: fc.Arbitrary<Step> = fc.oneof(
  step(14, just({ do: 'flow' })),
  step(9, fc.record({ do: fc.constant('place' as const), run: index, machine: index })),
  step(16, fc.record({ do: fc.constant('print' as const), cli: index, bytes })),
  step(5, fc.record({ do: fc.constant('finish' as const), cli: index, withResult: fc.boolean() })),
  step(9, fc.record({ do: fc.constantFrom('up' as const, 'down' as const), machine: index, n: fc.integer({ min: 1, max: 4 }) })),
  step(2, fc.record({ do: fc.constant('late' as const), machine: index })),
  step(5, fc.record({ do: fc.constant('cut' as const), machine: index, keepUp: small, keepDown: small, router: fc.boolean(), runner: fc.boolean() })),
  step(6, fc.record({ do: fc.constant('connect' as const), machine: index })),
  step(2, fc.record({ do: fc.constant('stall' as const), machine: index, up: fc.boolean(), down: fc.boolean() })),
  step(2, fc.record({ do: fc.constant('reoffer' as const), machine: index })),
  step(3, fc.record({ do: fc.constant('killRunner' as const), machine: index, powerCut: fc.nat(3).map((n) => n === 0), kept: fc.double({ min: 0, max: 1, noNaN: true }) })),
  step(4, fc.record({ do: fc.constant('boot' as const), machine: index })),
  step(1, fc.nat(9).chain((n) => (n === 0 ? fc.record({ do: fc.constant('twin' as const), machine: index }) : just({ do: 'flow' })))),
  step(1, fc.record({ do: fc.constant('slow' as const), machine: index, prepareMs: fc.constantFrom(0, 500, 20_000), congested: fc.boolean() })),
  step(3, fc.record({ do: fc.constant('killRouter' as const), kept: small })),
  step(5, just({ do: 'startRouter' })),
  step(3, fc.record({ do: fc.constant('database' as const), held: fc.boolean(), slowPages: fc.boolean(), failing: fc.constantFrom('no' as const, 'no' as const, 'clean' as const, 'ambiguous' as const) })),
  step(5, fc.record({ do: fc.constant('commit' as const), n: fc.integer({ min: 1, max: 3 }) })),
  step(1, fc.record({ do: fc.constant('sync' as const), held: fc.boolean() })),
  step(1, fc.record({ do: fc.constant('full' as const), machine: index, full: fc.boolean() })),
  step(2, fc.record({ do: fc.constant('cancel' as const), run: index })),
  step(5, fc.record({ do: fc.constant('time' as const), ms, flowing: fc.boolean() })),
  step(1, fc.record({ do: fc.constant('jump' as const), ms: fc.constantFrom(26_000, 61_000, 301_000, 400_000) })),
  step(1, fc.record({ do: fc.constant('sleep' as const), machine: index, ms: fc.constantFrom(1_000, 120_000) })),
  step(5, fc.record({ do: fc.constant('subscribe' as const), run: index, after: fc.nat(6) })),
  step(3, fc.record({ do: fc.constantFrom('leave' as const, 'stallReader' as const, 'listen' as const), subscriber: index })),
)

export const schedule = fc.array(steps, { minLength: 1, maxLength: 70, size: 'max' })
