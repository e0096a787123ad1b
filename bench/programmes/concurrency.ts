/**
 * Goals 4 and 5: many streams at once that print little each.
 *
 * A thousand at a line a second, whose CLIs are processes of one real runner; five thousand of a thousand simulated runners,
 * for so many CLIs do not fit beside the router; and some hundreds that print together, as models do. Every round has
 * processes of its own, because what a router once had it may not give back.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { openTwoHop } from '../floor/floors.ts'
import { LoadClient, type Opened, type Plan } from '../load/client.ts'
import { nowUs } from '../load/pattern.ts'
import { LINE_BYTES, saw } from '../measure.ts'
import { against, noCounts, rounds, type Context, type Limit, type Programme, type Row, type Samples } from '../programme.ts'
import { openRig, type Target } from '../rig.ts'
import { enlist } from '../sim/enlist.ts'
import { SimulatedFleet } from '../sim/fleet.ts'

type Name = 'ours' | 'floor'
type Found = Record<string, number>

const SECOND: Plan = { bytes: LINE_BYTES, everyMs: 1_000 }
/** For what was started to come to rest. */
const REST_MS = 3_000
const STREAMS_PER_RUNNER = 5
const SLOTS = 16
/** A reply of a model as a burst of small pieces. */
const BURST = { lines: 64, everyMs: 20 }
const MOST_SLOTS = 1_024
/** Of a minute or more each, and each with processes of its own. */
const ROUNDS = { most: 3, fresh: true }
/** Past what the goal asks for. */
const STRETCH_ROUNDS = { most: 2, fresh: true }
/** A stream takes about as long to be there; the burst begins when all of them are. */
const OPEN_MS = 40

const LONG = { warm: 64, crowd: 1_000, few: 100, many: 5_000, bursts: [512], stretch: [1_024], lookMs: 10_000 }
const SHORT = { warm: 0, crowd: 20, few: 10, many: 50, bursts: [32], stretch: [], lookMs: 1_500 }

const sizes = ({ short }: Context) => (short ? SHORT : LONG)

const less = (kind: Limit['kind'], at: number): Limit => ({ kind, at, better: 'less' })

/** A target with one runner of its own and the fake CLI. */
const openOne = (name: Name): Promise<Target> => (name === 'ours' ? openRig({ slots: MOST_SLOTS }) : openTwoHop())

/** All end before it resolves, and are looked over. */
async function ending(context: Context, client: LoadClient, target: Target, streams: readonly Opened[]): Promise<number> {
  const reports = await client.ended(streams)
  for (const report of reports) saw(context, target, report)
  return Math.max(...reports.map(({ longestGapMs }) => longestGapMs))
}

async function crowd(context: Context, client: LoadClient, name: Name): Promise<Found> {
  const { warm, crowd: streams, lookMs } = sizes(context)
  const target = await openOne(name)
  try {
    const open = (n: number) => client.open(Array.from({ length: n }, () => ({ ...target.where, plan: SECOND })))
    const first = await open(warm)
    await client.cancel(first)
    await ending(context, client, target, first)
    const before = await target.used()
    const opened = await open(streams)
    await sleep(context.short ? 0 : REST_MS)
    const { lags, lateP99Ms } = await client.look(lookMs)
    const { router } = await target.used()
    await client.cancel(opened)
    await ending(context, client, target, opened)
    return { p50: lags.ms(0.5), p99: lags.ms(0.99), kb: (router.rssBytes - before.router.rssBytes) / streams / 1e3, late: lateP99Ms }
  } finally {
    await target.close()
  }
}

/** A target whose runners are simulated, and how to connect those from `from` to `to` of them. */
async function openMany(name: Name, runners: number) {
  const fleet = new SimulatedFleet()
  if (name === 'floor') {
    const target = await openTwoHop({ runners: 0 })
    return { target, fleet, connect: (from: number, to: number) => fleet.relay(target.where.port, to - from) }
  }
  const target = await openRig({ slots: 0 })
  const roster = await enlist(target, runners)
  return { target, fleet, connect: (from: number, to: number) => fleet.connect(roster, from, to, SLOTS) }
}

/** Few streams on few runners, and then many on as many more: the cost of an event must not grow with either. */
async function many(context: Context, client: LoadClient, name: Name): Promise<Found> {
  const { few, many: streams, lookMs } = sizes(context)
  const runners = streams / STREAMS_PER_RUNNER
  const { target, fleet, connect } = await openMany(name, runners)
  const opened: Opened[] = []
  const upTo = async (from: number, to: number, ms: number) => {
    await connect(from / STREAMS_PER_RUNNER, to / STREAMS_PER_RUNNER)
    opened.push(...(await client.open(Array.from({ length: to - from }, () => ({ ...target.where, plan: SECOND })))))
    await sleep(context.short ? 0 : REST_MS)
    await fleet.health()
    const before = await target.used()
    const { lags, lines, lateP99Ms: readerMs } = await client.look(ms)
    const { router } = await target.used()
    const { lateP99Ms, connected } = await fleet.health()
    context.saw({ ...noCounts(), broken: to / STREAMS_PER_RUNNER - connected })
    return { lags, lateMs: Math.max(lateP99Ms, readerMs), cpuUs: ((router.cpuS - before.router.cpuS) * 1e6) / lines, mb: router.rssBytes / 1e6 }
  }
  try {
    // Few lines a second: twice as long, for a CPU clock that counts in hundredths.
    const little = await upTo(0, few, lookMs * 2)
    const much = await upTo(few, streams, lookMs)
    await client.cancel(opened)
    await ending(context, client, target, opened)
    const { lags, lateMs: late, mb } = much
    return { p50: lags.ms(0.5), p99: lags.ms(0.99), mb, late, fewUs: little.cpuUs, manyUs: much.cpuUs }
  } finally {
    await fleet.close()
    await target.close()
  }
}

/** Streams that all print at a pace at the same time: the longest that any of them was silent. */
async function burst(context: Context, client: LoadClient, name: Name, streams: number): Promise<Found> {
  const target = await openOne(name)
  try {
    const waitMs = REST_MS + streams * OPEN_MS
    const together = nowUs() + waitMs * 1_000
    // Their phases are spread over one pace.
    const fromUs = (n: number) => together + Math.round((n * BURST.everyMs * 1_000) / streams)
    const plans = Array.from({ length: streams }, (_, n) => ({ bytes: LINE_BYTES, ...BURST, fromUs: fromUs(n) }))
    const opened = await client.open(plans.map((plan) => ({ ...target.where, plan })))
    const lateMs = Math.max(0, (nowUs() - together) / 1_000)
    const { lags } = await client.look(Math.max(0, (together - nowUs()) / 1_000) + BURST.lines * BURST.everyMs)
    const stallMs = await ending(context, client, target, opened)
    if (lateMs === 0) return { stall: stallMs, p50: lags.ms(0.5) }
    // They did not print together: whatever was seen of them is no answer to what was asked.
    context.say(`  ${target.name}: no number, for the last of ${streams} streams was there ${Math.round(lateMs)} ms after the first had begun`)
    return { stall: Number.NaN, p50: Number.NaN }
  } finally {
    await target.close()
  }
}

async function run(context: Context): Promise<Row[]> {
  const { crowd: thousand, few, many: thousands, bursts, stretch } = sizes(context)
  const client = await LoadClient.start()
  // In a short bench nothing is compared.
  const targets: readonly Name[] = context.short ? ['ours'] : ['ours', 'floor']
  const each = (work: (name: Name) => Promise<Found>, options = ROUNDS) => rounds(context, targets, work, options)
  try {
    const one = pairs(await each((name) => crowd(context, client, name)))
    const five = pairs(await each((name) => many(context, client, name)))
    const stalls: Row[] = []
    // One round is for a quick look.
    for (const streams of context.rounds === 1 ? bursts : [...bursts, ...stretch]) {
      const found = pairs(await each((name) => burst(context, client, name, streams), bursts.includes(streams) ? ROUNDS : STRETCH_ROUNDS))
      const what = `${streams} streams of ${BURST.lines} lines at ${BURST.everyMs} ms`
      const silence = against({ goal: '5', what: `longest silence, ${what}`, unit: 'ms', limit: less('absolute', 10 * BURST.everyMs) }, ...found('stall'))
      // None may stall, in no round.
      const silences = silence.samples.ours.filter((ms) => Number.isFinite(ms))
      stalls.push({ ...silence, ours: silences.length === 0 ? Number.NaN : Math.max(...silences) })
      stalls.push(against({ goal: '', what: `lag p50, ${what}`, unit: 'ms' }, ...found('p50')))
    }
    const [fewUs] = five('fewUs')
    const [manyUs, floorUs] = five('manyUs')
    return [
      against({ goal: '4', what: `lag p50, ${thousand} streams at 1/s`, unit: 'ms', limit: less('ratio', 1.5) }, ...one('p50')),
      against({ goal: '4', what: `lag p99, ${thousand} streams at 1/s`, unit: 'ms', limit: less('ratio', 2) }, ...one('p99')),
      against({ goal: '4', what: `router memory for each of ${thousand} streams`, unit: 'KB', limit: less('absolute', 64) }, ...one('kb')),
      against({ goal: '4', what: `lag p99, ${thousands} streams at 1/s`, unit: 'ms', limit: less('absolute', 120) }, ...five('p99')),
      against({ goal: '4', what: `router with ${thousands} streams`, unit: 'MB', limit: less('absolute', 450) }, ...five('mb')),
      against({ goal: '4', what: `router CPU for an event of ${thousands} streams, to one of ${few}`, unit: 'µs', limit: less('ratio', 1) }, manyUs, fewUs),
      against({ goal: '', what: `router CPU for an event, ${thousands} streams`, unit: 'µs' }, manyUs, floorUs),
      against({ goal: '', what: `lag p50, ${thousands} streams at 1/s`, unit: 'ms' }, ...five('p50')),
      against({ goal: '', what: `own lateness of client and simulated runners, p99, ${thousands} streams`, unit: 'ms' }, ...five('late')),
      against({ goal: '', what: `own lateness of the client, p99, ${thousand} streams`, unit: 'ms' }, ...one('late')),
      ...stalls,
    ]
  } finally {
    await client.stop()
  }
}

/** What was measured under a name, of ours and of the floor. */
const pairs = (samples: Partial<Samples<Name>>) => (name: string) => [samples.ours?.[name] ?? [], samples.floor?.[name] ?? []] as const

export const concurrency: Programme = { name: 'concurrency', about: 'thousands of streams that print little, and hundreds that print together', run }
