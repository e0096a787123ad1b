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
  | { do: 'up'; machine: number; n: number }
  | { do: 'down'; machine: number; n: number }
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
  | { do: 'leave'; subscriber: number }
  | { do: 'stallReader'; subscriber: number }
  | { do: 'listen'; subscriber: number }

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
      if (step.full) disk.full.add(`${machine.dir}/`)
      else disk.full.delete(`${machine.dir}/`)
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
const flag = fc.boolean()
const few = fc.nat(3)
const oneOf = <T extends string | number>(...values: [T, ...T[]]) => fc.constantFrom(...values)
const bytes = fc.oneof(
  { weight: 12, arbitrary: fc.integer({ min: 1, max: 200 }) },
  { weight: 3, arbitrary: fc.integer({ min: 200, max: 520 }) },
  // In parts, and past what a spool takes before it pauses the CLI.
  { weight: 3, arbitrary: fc.integer({ min: 512, max: 2_500 }) },
  { weight: 1, arbitrary: fc.integer({ min: 2_500, max: 7_000 }) },
)
const ms = fc.oneof({ weight: 4, arbitrary: oneOf(16, 1_000, 5_000) }, { weight: 2, arbitrary: oneOf(10_500, 16_000, 31_000) })
const share = fc.double({ min: 0, max: 1, noNaN: true })
const failing = oneOf<'no' | 'clean' | 'ambiguous'>('no', 'no', 'clean', 'ambiguous')

type Of<D extends Step['do']> = Omit<Extract<Step, { do: D }>, 'do'>
type Weighted = { weight: number; arbitrary: fc.Arbitrary<Step> }

function some<D extends Step['do']>(weight: number, name: D, fields: { [K in keyof Of<D>]: fc.Arbitrary<Of<D>[K]> }): Weighted {
  const values: fc.Arbitrary<object> = fc.record(fields)
  return { weight, arbitrary: values.map((value) => ({ ...value, do: name }) as Step) }
}

export const steps: fc.Arbitrary<Step> = fc.oneof(
  some(14, 'flow', {}),
  some(9, 'place', { run: index, machine: index }),
  some(16, 'print', { cli: index, bytes }),
  some(5, 'finish', { cli: index, withResult: flag }),
  some(5, 'up', { machine: index, n: fc.integer({ min: 1, max: 4 }) }),
  some(5, 'down', { machine: index, n: fc.integer({ min: 1, max: 4 }) }),
  some(2, 'late', { machine: index }),
  some(5, 'cut', { machine: index, keepUp: few, keepDown: few, router: flag, runner: flag }),
  some(6, 'connect', { machine: index }),
  some(2, 'stall', { machine: index, up: flag, down: flag }),
  some(2, 'reoffer', { machine: index }),
  some(3, 'killRunner', { machine: index, powerCut: few.map((n) => n === 0), kept: share }),
  some(4, 'boot', { machine: index }),
  some(1, 'slow', { machine: index, prepareMs: oneOf(0, 500, 20_000), congested: flag }),
  some(3, 'killRouter', { kept: few }),
  some(5, 'startRouter', {}),
  some(3, 'database', { held: flag, slowPages: flag, failing }),
  some(5, 'commit', { n: fc.integer({ min: 1, max: 3 }) }),
  some(1, 'sync', { held: flag }),
  some(1, 'full', { machine: index, full: flag }),
  some(2, 'cancel', { run: index }),
  some(5, 'time', { ms, flowing: flag }),
  some(1, 'jump', { ms: oneOf(26_000, 61_000, 301_000, 400_000) }),
  some(1, 'sleep', { machine: index, ms: oneOf(1_000, 120_000) }),
  some(5, 'subscribe', { run: index, after: fc.nat(6) }),
  some(1, 'leave', { subscriber: index }),
  some(1, 'stallReader', { subscriber: index }),
  some(1, 'listen', { subscriber: index }),
)

const plain = fc.array(steps, { minLength: 1, maxLength: 70, size: 'max' })
const twin = some(1, 'twin', { machine: index }).arbitrary
/** An identity that is used twice spoils much of what follows, so few schedules have one. */
export const schedule = fc.oneof(
  { weight: 19, arbitrary: plain },
  { weight: 1, arbitrary: fc.tuple(plain, twin, plain).map(([before, between, after]) => [...before, between, ...after]) },
)
