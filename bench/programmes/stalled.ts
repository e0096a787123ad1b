/**
 * Goal 7, first half: what a reader that stops reading costs the router and the runner in memory, and what it costs those
 * who read on. Afterwards it reads on as well, with `after` if it was let go meanwhile, and must find all of it.
 *
 * Both runs, with it and without, go through the same processes, because what a heap has grown to is kept: the difference
 * of their peaks is the reader's.
 */
import { LoadClient, type Opened, type StreamReport } from '../load/client.ts'
import { saw } from '../measure.ts'
import { forgetPeak, peakBytes } from '../peak.ts'
import { against, alone, noCounts, type Context, type Programme, type Row } from '../programme.ts'
import { openRig, type Rig } from '../rig.ts'

const LINE_BYTES = 1_000
const MB = 1e6
const SIZES = { '63 MB': 63_000, '1 GB': 1_000_000 }
const SHORT_LINES = 5_000
/** Each is two times 1 GB that is written, read and read again. */
const LARGE_ROUNDS = 2
/** Turned round each round: the second of two finds a heap that the first has left. */
const ORDER = ['without', 'with'] as const
const ADDED_MB = { kind: 'absolute', at: 32, better: 'less' } as const

type Clients = { readonly reader: LoadClient; readonly slow: LoadClient }
type Seen = { readonly routerMb: number; readonly runnerMb: number; readonly pauseMs: number; readonly eventsPerS: number }

async function run(context: Context): Promise<Row[]> {
  const clients = { reader: await LoadClient.start(), slow: await LoadClient.start() }
  try {
    if (context.short) return await ofSize(context, clients, 'a few MB', SHORT_LINES, 1)
    const small = await ofSize(context, clients, '63 MB', SIZES['63 MB'], context.rounds)
    return [...small, ...(await ofSize(context, clients, '1 GB', SIZES['1 GB'], Math.min(context.rounds, LARGE_ROUNDS)))]
  } finally {
    await clients.reader.stop()
    await clients.slow.stop()
  }
}

async function ofSize(context: Context, clients: Clients, name: string, lines: number, times: number): Promise<Row[]> {
  const all: Record<'without' | 'with', Seen[]> = { without: [], with: [] }
  for (let round = 0; round < times; round++) {
    const rig = await openRig({ slots: 2 })
    try {
      await measured(context, clients, rig, Math.min(lines, SIZES['63 MB']), false)
      for (const which of round % 2 === 0 ? ORDER : ORDER.toReversed()) {
        const seen = await measured(context, clients, rig, lines, which === 'with')
        all[which].push(seen)
        const { routerMb, runnerMb, pauseMs, eventsPerS } = seen
        context.say(`  ${name}, ${which}: router ${routerMb.toFixed(0)} MB, runner ${runnerMb.toFixed(0)} MB, longest pause ${pauseMs.toFixed(0)} ms, ${eventsPerS.toFixed(0)} events/s`)
      }
    } finally {
      await rig.close()
    }
  }
  const of = (which: keyof typeof all, what: keyof Seen) => all[which].map((seen) => seen[what])
  const added = (what: 'routerMb' | 'runnerMb') => of('with', what).map((mb, i) => mb - of('without', what)[i]!)
  return [
    alone({ goal: '7', what: `a stalled reader adds to the router, ${name}`, unit: 'MB', limit: ADDED_MB }, added('routerMb')),
    alone({ goal: '7', what: `a stalled reader adds to the runner, ${name}`, unit: 'MB', limit: ADDED_MB }, added('runnerMb')),
    alone({ goal: '', what: `peak of the router beside a stalled reader, ${name}`, unit: 'MB' }, of('with', 'routerMb')),
    against({ goal: '', what: `who reads on beside a stalled reader, ${name} (floor: without)`, unit: 'events/s' }, of('with', 'eventsPerS'), of('without', 'eventsPerS')),
    against({ goal: '', what: `longest pause of who reads on, ${name} (floor: without)`, unit: 'ms' }, of('with', 'pauseMs'), of('without', 'pauseMs')),
  ]
}

async function measured(context: Context, { reader, slow }: Clients, rig: Rig, lines: number, stalled: boolean): Promise<Seen> {
  const pids = [rig.pids.router, rig.pids.runner!]
  for (const pid of pids) await forgetPeak(pid)
  const plan = { bytes: LINE_BYTES, lines }
  const [reading] = await reader.open([{ ...rig.where, plan }])
  const held = stalled ? await stall(slow, rig, reading!) : undefined
  const [report] = await reader.ended([reading!])
  const [router, runner] = await Promise.all(pids.map(peakBytes))
  saw(context, rig, report!)
  if (held) await readOn(context, slow, rig, held, report!)
  return { routerMb: router! / MB, runnerMb: runner! / MB, pauseMs: report!.longestGapMs, eventsPerS: lines / ((report!.endMs - report!.firstLineMs) / 1_000) }
}

/** Reads what comes first, and then nothing. */
async function stall(slow: LoadClient, rig: Rig, { run: id, salt }: Opened): Promise<Opened> {
  const [held] = await slow.open([{ ...rig.where, run: id, salt, plan: { bytes: LINE_BYTES } }])
  await slow.hold([held!], true)
  return held!
}

/** All that it has not read, on the same connection or on a new one. Together it must have what the other has. */
async function readOn(context: Context, slow: LoadClient, rig: Rig, held: Opened, whole: StreamReport): Promise<void> {
  await slow.hold([held], false)
  const [first] = await slow.ended([held])
  const { broken, ...counts } = first!.counts
  context.saw({ ...counts, broken: 0 })
  // Whoever takes nothing for 30 s is let go, between two events or in one.
  const [rest] = broken === 0 ? [] : await slow.all([{ ...rig.where, run: held.run, salt: held.salt, after: first!.events, plan: { bytes: LINE_BYTES, lines: whole.lines } }])
  if (rest) saw(context, rig, rest)
  context.saw({ ...noCounts(), lost: Math.abs(whole.events - first!.events - (rest?.events ?? 0)) })
}

export const stalled: Programme = { name: 'stalled', about: 'what a reader that stops reading costs, in memory and for others (goal 7)', run }
