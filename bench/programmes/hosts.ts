/** Both hosts side by side: the Worker in workerd as `ours`, Node as its floor. No goal hangs on it. */
import { against, rounds, type Context, type Programme, type Row } from '../programme.ts'
import { LoadClient } from '../load/client.ts'
import { openRig, type Rig } from '../rig.ts'
import { bulk, lag } from '../measure.ts'

const SLOTS = 64
const AT_ONCE = 8
const EVENTS = 50_000
const LOOK_MS = 5_000
const HOSTS = ['node', 'workers'] as const

const UNITS = {
  'events/s, one run': 'events/s',
  [`events/s, ${AT_ONCE} runs`]: 'events/s',
  'router CPU, one run': 's per 100k',
  [`router CPU, ${AT_ONCE} runs`]: 's per 100k',
  [`runner CPU, ${AT_ONCE} runs`]: 's per 100k',
  'lag p50, one stream': 'ms',
  'lag p99, one stream': 'ms',
  [`lag p50, ${SLOTS} streams`]: 'ms',
  [`lag p99, ${SLOTS} streams`]: 'ms',
  [`router CPU, ${SLOTS} streams`]: 'ms per s and stream',
}

async function run(context: Context): Promise<Row[]> {
  const client = await LoadClient.start()
  const rigs: Rig[] = []
  try {
    for (const host of HOSTS) rigs.push(await openRig({ host, slots: SLOTS }))
    const found = await rounds(context, HOSTS, (host) => measured(context, client, rigs.find((rig) => rig.host === host)!))
    return Object.entries(UNITS).map(([what, unit]) => against({ goal: '', what: `workers / node: ${what}`, unit }, found.workers[what] ?? [], found.node[what] ?? []))
  } finally {
    for (const rig of rigs) await rig.close()
    await client.stop()
  }
}

async function measured(context: Context, client: LoadClient, rig: Rig): Promise<Record<keyof typeof UNITS, number>> {
  const events = context.short ? EVENTS / 10 : EVENTS
  const lookMs = context.short ? LOOK_MS / 10 : LOOK_MS
  const one = await bulk(context, client, rig, { runs: 1, lines: events })
  const many = await bulk(context, client, rig, { runs: AT_ONCE, lines: Math.ceil(events / 4) })
  const single = await lag(context, client, rig, { streams: 1, lookMs })
  const crowd = await lag(context, client, rig, { streams: SLOTS, lookMs })
  return {
    'events/s, one run': one.eventsPerS,
    [`events/s, ${AT_ONCE} runs`]: many.eventsPerS,
    'router CPU, one run': one.routerCpuS,
    [`router CPU, ${AT_ONCE} runs`]: many.routerCpuS,
    [`runner CPU, ${AT_ONCE} runs`]: many.runnerCpuS,
    'lag p50, one stream': single.p50Ms,
    'lag p99, one stream': single.p99Ms,
    [`lag p50, ${SLOTS} streams`]: crowd.p50Ms,
    [`lag p99, ${SLOTS} streams`]: crowd.p99Ms,
    [`router CPU, ${SLOTS} streams`]: crowd.cpuMsPerStream,
  }
}

export const hosts: Programme = { name: 'hosts', about: 'the Workers host beside the Node host', run }
