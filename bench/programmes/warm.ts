/**
 * Goal 2: the first event of the real CLI from a process that was there before the run: a spare for a new session, the
 * session's own process for its next turn. The floor is the CLI started by hand, cold, with the same arguments.
 *
 * What is called warm here must say so in its `started` mark, and every further turn must cost what one turn costs.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { readStatus } from '../../runner/status.ts'
import { call } from '../../test/chaos/subscriber.ts'
import { LoadClient, type StreamReport } from '../load/client.ts'
import { saw } from '../measure.ts'
import { openPricedModel } from '../priced-model.ts'
import { against, noCounts, type Context, type Programme, type Row } from '../programme.ts'
import { openByHand, REAL_CLI } from '../real-cli.ts'
import { openRig, type Rig } from '../rig.ts'
import { shuffled } from '../shuffle.ts'

/** For each round: 30 in the usual five. */
const TURNS = 6
const PROMPT = 'Say hello.'
/** So many runs in a row are worth so many spares. */
const HOT = { runs: 6, spares: 2 }
const LESS_HOT = { runs: 2, spares: 1 }
/** A machine may be too busy for spares; then there is nothing to measure. */
const SPARE_MS = 60_000
const LOOK_MS = 50
/** After a process has started: it is not quite at rest when it says that it is ready. */
const REST_MS = 300
const SAME_USD = 1e-9

const WAYS = ['hand', 'spare', 'next'] as const
type Took = { readonly firstLineMs: number; readonly endMs: number }
const NOTHING: Took = { firstLineMs: Number.NaN, endMs: Number.NaN }

async function run(context: Context): Promise<Row[]> {
  const client = await LoadClient.start()
  const model = await openPricedModel()
  const hand = await openByHand(client, model)
  const rig = await openRig({ slots: 4, claude: REAL_CLI, warm: true, runnerEnv: model.env })
  const took: Record<(typeof WAYS)[number], Took[]> = { hand: [], spare: [], next: [] }
  try {
    const { runs, spares } = context.short ? LESS_HOT : HOT
    for (let i = 1; i < runs; i++) await turn(context, client, rig)
    const { session } = await turn(context, client, rig)
    // The first turn may have another price: the CLI asks for a title of its session.
    const costs = [(await turn(context, client, rig, { warm: true, session })).costUsd]
    const ways = {
      hand: () => hand.turn(PROMPT),
      spare: async (there: boolean) => (there ? (await turn(context, client, rig, { warm: true })).report : NOTHING),
      next: async () => {
        const { report, costUsd } = await turn(context, client, rig, { warm: true, session })
        costs.push(costUsd)
        return report
      },
    }
    const last = context.short ? 0 : TURNS * context.rounds
    for (let round = 0; round <= last; round++) {
      for (const way of shuffled(WAYS, context.seed + round)) {
        const there = await sparesWait(rig, spares)
        if (!there) context.say(`  there are no ${spares} spares: no number`)
        const found = await ways[way](there)
        if (round > 0 || context.short) took[way].push(found)
      }
      context.say(`  ${round === 0 && !context.short ? 'warm-up' : `round ${round}`}: ${WAYS.map((way) => `${way} ${took[way].at(-1)?.firstLineMs.toFixed(0) ?? '-'} ms`).join(', ')}`)
    }
    sawCosts(context, costs)
  } finally {
    await rig.close()
    await hand.close()
    await model.close()
    await client.stop()
  }
  const of = (way: (typeof WAYS)[number], what: keyof Took) => took[way].map((one) => one[what])
  const less = (at: number) => ({ kind: 'ratio', at, better: 'less' }) as const
  return [
    against({ goal: '2', what: 'first event of a new session from a spare (floor: cold, by hand)', unit: 'ms', limit: less(0.25) }, of('spare', 'firstLineMs'), of('hand', 'firstLineMs')),
    against({ goal: '2', what: 'first event of the next turn of a session (floor: cold, by hand)', unit: 'ms', limit: less(0.1) }, of('next', 'firstLineMs'), of('hand', 'firstLineMs')),
    against({ goal: '', what: 'end of a new session’s turn from a spare (floor: cold, by hand)', unit: 'ms' }, of('spare', 'endMs'), of('hand', 'endMs')),
    against({ goal: '', what: 'end of the next turn of a session (floor: cold, by hand)', unit: 'ms' }, of('next', 'endMs'), of('hand', 'endMs')),
  ]
}

type Wanted = { readonly warm?: boolean; readonly session?: string }
type Turned = { readonly report: StreamReport; readonly session: string; readonly costUsd: number }

/** Rejects when the run did not succeed; what should have been warm and was not counts as broken. */
async function turn(context: Context, client: LoadClient, rig: Rig, { warm: isWarm = false, session }: Wanted = {}): Promise<Turned> {
  const [report] = await client.all([{ ...rig.where, prompt: PROMPT, ...(session === undefined ? {} : { body: { session_id: session } }) }])
  saw(context, rig, report!)
  const { run: id } = report!
  const shown = JSON.parse((await call(rig.where, 'GET', `/v1/runs/${id}`)).body) as { status: string; session_id: string; cost_usd: number }
  if (shown.status !== 'succeeded') throw new Error(`run ${id} is ${shown.status}: ${JSON.stringify(shown)}`)
  const started = /^event: started\ndata: (.*)$/m.exec((await call(rig.where, 'GET', `/v1/runs/${id}/events`)).body)?.[1] ?? '{}'
  if (isWarm && (JSON.parse(started) as { warm?: boolean }).warm !== true) {
    context.say(`  run ${id} was to be warm: ${started}`)
    context.saw({ ...noCounts(), broken: 1 })
  }
  return { report: report!, session: shown.session_id, costUsd: shown.cost_usd }
}

/** Waits until all spares do that there may be, so that none starts beside what is measured; false where they never came. */
async function sparesWait(rig: Rig, spares: number): Promise<boolean> {
  const deadline = performance.now() + SPARE_MS
  for (;;) {
    const kept = (await readStatus(join(rig.dir, 'runner', 'runner')))?.warm
    if (kept && kept.spares >= spares) break
    if (performance.now() > deadline) return false
    await sleep(LOOK_MS)
  }
  await sleep(REST_MS)
  return true
}

/** The model has one price for all turns, so what grows is a total. */
function sawCosts(context: Context, costs: readonly number[]): void {
  const first = costs[0] ?? Number.NaN
  const wrong = costs.filter((usd) => !(usd > 0 && Math.abs(usd - first) < SAME_USD)).length
  if (wrong > 0) context.say(`  turns of one session cost ${costs.join(', ')} USD`)
  context.saw({ ...noCounts(), corrupt: wrong })
}

export const warm: Programme = { name: 'warm', about: 'the first event of the real CLI from a process that was there before (goal 2)', run }
