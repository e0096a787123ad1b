/**
 * Goal 6: what a runner costs the router that is connected and has nothing to do. Memory is taken between a first thousand
 * and all of them, so that what the process needs for itself is not in it; CPU while all they do is ping, after a while in
 * which V8 may tidy up. The floor is a WebSocket server that answers pings and knows nobody.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { startChild } from '../children.ts'
import { used } from '../proc.ts'
import { against, alone, noCounts, rounds, type Context, type Programme, type Row, type Samples } from '../programme.ts'
import { openRig } from '../rig.ts'
import { enlist } from '../sim/enlist.ts'
import { SimulatedFleet } from '../sim/fleet.ts'

const LONG = { first: 1_000, all: 10_000, restMs: 15_000, lookMs: 20_000 }
const SHORT = { first: 20, all: 100, restMs: 0, lookMs: 1_000 }
const SLOTS = 8
/** Of some minutes each. */
const MOST_ROUNDS = 2

/** A place that runners connect to. */
interface Place {
  readonly pid: number
  connect(fleet: SimulatedFleet, from: number, to: number): Promise<void>
  close(): Promise<void>
}

async function ours(runners: number): Promise<Place> {
  const rig = await openRig({ slots: 0 })
  const roster = await enlist(rig, runners)
  return { pid: rig.pids.router, connect: (fleet, from, to) => fleet.connect(roster, from, to, SLOTS), close: () => rig.close() }
}

async function floor(): Promise<Place> {
  const server = await startChild('sim/bare.js')
  const port = (await server.ask('port')) as number
  return { pid: server.pid, connect: (fleet, from, to) => fleet.bare(port, to - from), close: () => server.stop() }
}

async function measure(context: Context, place: Place): Promise<Record<string, number>> {
  const { first, all, restMs, lookMs } = context.short ? SHORT : LONG
  const fleet = new SimulatedFleet()
  try {
    await place.connect(fleet, 0, first)
    await sleep(restMs)
    const some = await used(place.pid)
    const began = performance.now()
    await place.connect(fleet, first, all)
    const connectS = (performance.now() - began) / 1_000
    await sleep(restMs)
    await fleet.health()
    const before = await used(place.pid)
    await sleep(lookMs)
    const after = await used(place.pid)
    const { connected, ended, lateP99Ms } = await fleet.health()
    context.saw({ ...noCounts(), broken: all - connected })
    if (ended !== undefined) context.say(`  a runner was let go: ${ended}`)
    return {
      kb: (after.rssBytes - some.rssBytes) / (all - first) / 1e3,
      percent: ((after.cpuS - before.cpuS) * 100_000) / lookMs,
      mb: after.rssBytes / 1e6,
      perS: (all - first) / connectS,
      late: lateP99Ms,
    }
  } finally {
    await fleet.close()
    await place.close()
  }
}

async function run(context: Context): Promise<Row[]> {
  const { all } = context.short ? SHORT : LONG
  const targets: readonly ('ours' | 'floor')[] = context.short ? ['ours'] : ['ours', 'floor']
  const found: Partial<Samples<'ours' | 'floor'>> = await rounds(
    context,
    targets,
    async (target) => measure(context, target === 'ours' ? await ours(all) : await floor()),
    { most: MOST_ROUNDS, fresh: true },
  )
  const of = (name: string) => [found.ours?.[name] ?? [], found.floor?.[name] ?? []] as const
  return [
    against({ goal: '6', what: `memory of an idle runner, of ${all}`, unit: 'KB', limit: { kind: 'absolute', at: 12, better: 'less' } }, ...of('kb')),
    against({ goal: '6', what: `CPU for the pings of ${all} idle runners`, unit: '% of a core', limit: { kind: 'absolute', at: 2, better: 'less' } }, ...of('percent')),
    against({ goal: '', what: `router with ${all} idle runners`, unit: 'MB' }, ...of('mb')),
    alone({ goal: '', what: 'runners that come back after a restart', unit: '/s' }, of('perS')[0]),
    alone({ goal: '', what: 'the simulated runners’ own lateness, p99', unit: 'ms' }, of('late')[0]),
  ]
}

export const idle: Programme = { name: 'idle', about: 'what runners cost that have nothing to do', run }
