/** Goals 3 and 9: what an event costs, how many there are a second, and a run of a million of them, also read again. */
import { LoadClient } from '../load/client.ts'
import { openTwoHop } from '../floor/floors.ts'
import { bulk, LINE_BYTES, saw } from '../measure.ts'
import { against, alone, rounds, type Context, type Limit, type Programme, type Row } from '../programme.ts'
import { openRig, type Target } from '../rig.ts'

const LINES = 400_000
const AT_ONCE = 8
const SHORT_LINES = 8_000
const MILLION = 1_000_000
const SHORT_MILLION = 20_000
/** On processes that have had some millions already. */
const MILLION_ROUNDS = { most: 3, fresh: true }

const less = (at: number): Limit => ({ kind: 'ratio', at, better: 'less' })
const more = (at: number): Limit => ({ kind: 'ratio', at, better: 'more' })
const LOADS = [{ name: 'one run', runs: 1 }, { name: `${AT_ONCE} runs at once`, runs: AT_ONCE }] as const

async function run(context: Context): Promise<Row[]> {
  const client = await LoadClient.start()
  const targets: Target[] = []
  try {
    targets.push(await openTwoHop(), await openRig({ slots: AT_ONCE }))
    return [...(await besideTheFloor(context, client, targets)), ...(await aMillion(context, client, targets[1]!))]
  } finally {
    for (const target of targets) await target.close()
    await client.stop()
  }
}

async function besideTheFloor(context: Context, client: LoadClient, targets: readonly Target[]): Promise<Row[]> {
  const lines = context.short ? SHORT_LINES : LINES
  const rows: Row[] = []
  for (const { name, runs } of LOADS) {
    const found = await rounds(context, ['ours', 'two-hop'] as const, async (which) => {
      const target = targets.find((one) => one.name === which)!
      const { eventsPerS, routerCpuS, runnerCpuS } = await bulk(context, client, target, { runs, lines: lines / runs })
      return { [`events/s, ${name}`]: eventsPerS, [`router CPU, ${name}`]: routerCpuS, [`router + runner CPU, ${name}`]: routerCpuS + runnerCpuS }
    })
    const row = (what: string, unit: string, limit: Limit) =>
      against({ goal: '3', what: `${what}, ${name}`, unit, limit }, found.ours[`${what}, ${name}`] ?? [], found['two-hop'][`${what}, ${name}`] ?? [])
    rows.push(row('router CPU', 's per 100k', less(1.25)), row('router + runner CPU', 's per 100k', less(1.4)), row('events/s', 'events/s', more(0.75)))
  }
  return rows
}

/** From the POST to the last event at the client, which is after its commit; then all of it once more, from 0. */
async function aMillion(context: Context, client: LoadClient, target: Target): Promise<Row[]> {
  const plan = { bytes: LINE_BYTES, lines: context.short ? SHORT_MILLION : MILLION }
  const found = await rounds(context, ['ours'] as const, async () => {
    const [live] = await client.all([{ ...target.where, plan }])
    saw(context, target, live!)
    const [again] = await client.all([{ ...target.where, run: live!.run, salt: live!.salt, plan }])
    saw(context, target, again!)
    return { committed: (live!.lines * 1_000) / live!.endMs, replayed: (again!.lines * 1_000) / again!.endMs }
  }, MILLION_ROUNDS)
  const at = (n: number): Limit => ({ kind: 'absolute', at: n, better: 'more' })
  return [
    alone({ goal: '9', what: 'committed and read, one run of 1,000,000', unit: 'events/s', limit: at(15_000) }, found.ours['committed'] ?? []),
    alone({ goal: '9', what: 'replayed from 0', unit: 'events/s', limit: at(50_000) }, found.ours['replayed'] ?? []),
  ]
}

export const throughput: Programme = { name: 'throughput', about: 'what events cost, and how many there are a second (goals 3 and 9)', run }
