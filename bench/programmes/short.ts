/**
 * Short requests with a token, on few keep-alive connections, against a bare server that gives the same bytes. The client
 * is a process of its own on the same processors, so its share is in every number, the floor's as well.
 */
import { startChild, type Child } from '../children.ts'
import { LoadClient } from '../load/client.ts'
import { against, alone, noCounts, rounds, type Context, type Programme, type Row } from '../programme.ts'
import { openRig, type Rig } from '../rig.ts'
import type { Canned } from '../short/canned.ts'
import type { Done, Job } from '../short/requests.ts'

const CONNECTIONS = 16
const LOOK_S = 5
const SHORT_S = 0.3
/** Runs that are there to be listed; a page has 20. */
const RUNS = 30
/** Node sets these for itself, anew for each answer. */
const OF_THE_SERVER = new Set(['connection', 'content-length', 'date', 'keep-alive', 'transfer-encoding'])

type Asked = Omit<Job, 'connections' | 'seconds'>

async function run(context: Context): Promise<Row[]> {
  const rig = await openRig({ slots: 4 })
  const processes: Child[] = []
  const child = async () => {
    const started = await startChild('short/worker.js')
    processes.push(started)
    return started
  }
  try {
    const jobs = await jobsOf(rig, await someRuns(context, rig))
    const canned = await answerTo(jobs.get)
    const port = (await (await child()).ask('serve', canned)) as number
    const client = await child()
    const targets = { ...jobs, floor: { ...jobs.get, port } }
    const found = await rounds(context, Object.keys(targets) as (keyof typeof targets)[], (target) => measured(context, client, rig, targets[target]))
    const unit = 'requests/s'
    const { get, floor, list, refused } = found
    const goal = { goal: '8', what: `GET /v1/runs/:id, ${CONNECTIONS} at once`, unit, limit: { kind: 'absolute', at: 4_000, better: 'more' } } as const
    return [
      against(goal, get['per s']!, floor['per s']!),
      against({ goal: '', what: `GET /v1/runs/:id, p99`, unit: 'ms' }, get['p99 ms']!, floor['p99 ms']!),
      alone({ goal: '', what: 'GET /v1/runs/:id, router CPU', unit: 'µs' }, get['router µs']!),
      alone({ goal: '', what: 'GET /v1/runs, the first page', unit }, list['per s']!),
      alone({ goal: '', what: 'POST /v1/runs, refused for its body', unit }, refused['per s']!),
    ]
  } finally {
    for (const one of processes) await one.stop()
    await rig.close()
  }
}

/** Resolves to the id of the last. */
async function someRuns(context: Context, rig: Rig): Promise<string> {
  const client = await LoadClient.start()
  try {
    const reports = await client.all(Array.from({ length: RUNS }, () => ({ ...rig.where, plan: { bytes: 200, lines: 10 } })), 4)
    for (const { counts } of reports) context.saw(counts)
    return reports.at(-1)!.run
  } finally {
    await client.stop()
  }
}

async function jobsOf({ where: { port, token } }: Rig, id: string): Promise<Record<'get' | 'list' | 'refused', Asked>> {
  const headers = { authorization: `Bearer ${token}` }
  const get = { port, headers, method: 'GET', path: `/v1/runs/${id}`, status: 200 } as const
  const list = { ...get, path: '/v1/runs' }
  return {
    // Every answer is held against the first: what is fast and wrong is no answer.
    get: { ...get, answer: (await answerTo(get)).body },
    list: { ...list, answer: (await answerTo(list)).body },
    // A problem has the id of its request in it.
    refused: { ...list, method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: '{"prompt":1}', status: 400 },
  }
}

async function answerTo({ port, path, headers }: Asked): Promise<Canned> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers })
  if (response.status !== 200) throw new Error(`GET ${path} answered ${response.status}: ${await response.text()}`)
  const kept = [...response.headers].filter(([name]) => !OF_THE_SERVER.has(name))
  return { status: response.status, headers: Object.fromEntries(kept), body: await response.text() }
}

async function measured(context: Context, client: Child, rig: Rig, job: Asked): Promise<Record<string, number>> {
  const before = await rig.used()
  const done = (await client.ask('hammer', { ...job, connections: CONNECTIONS, seconds: context.short ? SHORT_S : LOOK_S })) as Done
  const after = await rig.used()
  context.saw({ ...noCounts(), corrupt: done.wrong })
  const cpuUs = ((after.router.cpuS - before.router.cpuS) * 1e6) / done.answers
  return { 'per s': done.answers / done.seconds, 'p99 ms': done.p99_ms, 'router µs': cpuUs }
}

export const short: Programme = { name: 'short', about: 'short requests with a token, against a bare server (goal 8)', run }
