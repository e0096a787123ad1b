/**
 * Goal 1: how long from the POST to the first line of the CLI, and what of it is ours.
 *
 * With the fake CLI, which answers at once, nearly all of it is the way: what is added is what a start by hand does not
 * take. With the real one, cold, the way is a small part.
 */
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { commits } from '../disk.ts'
import { fakeClaude } from '../fake/build.ts'
import { openOneHop, openTwoHop } from '../floor/floors.ts'
import { LoadClient } from '../load/client.ts'
import { LINE_BYTES, saw } from '../measure.ts'
import { against, alone, median, rounds, type Context, type Programme, type Row } from '../programme.ts'
import { openByHand, openModel, REAL_CLI } from '../real-cli.ts'
import { openRig, type Target } from '../rig.ts'
import { shuffled } from '../shuffle.ts'

/** One after the other, in each round. */
const REQUESTS = 20
/** Between them: a runner that keeps spares starts the next one as soon as it has given one away. */
const REST_MS = 100
const COMMITS = 50
/** For each round: 30 in the usual five. */
const COLD_STARTS = 6
const PROMPT = 'Say hello.'

async function run(context: Context): Promise<Row[]> {
  const client = await LoadClient.start()
  try {
    return [...(await ofTheWay(context, client)), ...(await ofTheRealOne(context, client))]
  } finally {
    await client.stop()
  }
}

async function ofTheWay(context: Context, client: LoadClient): Promise<Row[]> {
  const claude = await fakeClaude()
  const targets: Target[] = []
  try {
    for (const open of [openOneHop, openTwoHop, () => openRig({ slots: 2 }), () => openRig({ slots: 2, warm: true })]) targets.push(await open())
    const [oneHop, twoHop, ours, spare] = targets as [Target, Target, Target, Target]
    const requests = context.short ? 2 : REQUESTS
    const takers = {
      direct: () => byHand(client, claude),
      'one-hop': () => posted(context, client, oneHop),
      'two-hop': () => posted(context, client, twoHop),
      ours: () => posted(context, client, ours),
      'ours, spare': () => posted(context, client, spare),
    }
    const found = await rounds(context, [...(Object.keys(takers) as (keyof typeof takers)[]), 'commit' as const], async (name) => {
      if (name === 'commit') return { ms: median(await commits(tmpdir(), COMMITS)) }
      const took: number[] = []
      for (let i = 0; i < requests; i++) {
        took.push(await takers[name]())
        await sleep(REST_MS)
      }
      return { ms: median(took) }
    })
    const of = (name: keyof typeof found) => found[name]['ms'] ?? []
    const less = (samples: readonly number[], ...others: (keyof typeof found)[]) =>
      samples.map((ms, i) => others.reduce((left, other) => left - of(other)[i]!, ms))
    const unit = 'ms'
    const limit = { kind: 'ratio', at: 1.25, better: 'less' } as const
    const added = 'added to a direct spawn until the first line, less one group commit (floor: what two-hop adds)'
    return [
      against({ goal: '1', what: added, unit, limit }, less(of('ours'), 'commit', 'direct'), less(of('two-hop'), 'direct')),
      against({ goal: '', what: 'POST to first line, CLI started for it (floor: two-hop)', unit }, of('ours'), of('two-hop')),
      // No ratio to a floor that starts its CLI says what the way costs.
      against({ goal: '', what: 'POST to first line, from a spare (floor: two-hop, which starts the CLI)', unit }, of('ours, spare'), of('two-hop')),
      against({ goal: '', what: 'POST to first line of the one-hop floor (floor: direct spawn)', unit }, of('one-hop'), of('direct')),
      alone({ goal: '', what: 'one group commit on this disk', unit: 'ms' }, of('commit')),
    ]
  } finally {
    for (const target of targets) await target.close()
  }
}

async function byHand(client: LoadClient, claude: string): Promise<number> {
  const content = JSON.stringify({ lines: 1, bytes: LINE_BYTES })
  const input = `${JSON.stringify({ type: 'user', message: { role: 'user', content } })}\n`
  const { firstLineMs } = await client.direct({ command: claude, args: ['--verbose', '-p'], cwd: tmpdir(), env: {}, input, until: '"type":"result"' })
  return firstLineMs
}

async function posted(context: Context, client: LoadClient, target: Target): Promise<number> {
  const [report] = await client.all([{ ...target.where, plan: { bytes: LINE_BYTES, lines: 1 } }])
  saw(context, target, report!)
  return report!.firstLineMs
}

/** One of each in turn, in an order of chance: what else the machine does changes within seconds. */
async function ofTheRealOne(context: Context, client: LoadClient): Promise<Row[]> {
  const model = await openModel()
  const hand = await openByHand(client, model)
  const rig = await openRig({ slots: 2, claude: REAL_CLI, runnerEnv: model.env })
  const took = { ours: [] as number[], hand: [] as number[] }
  try {
    const ours = async () => {
      const [report] = await client.all([{ ...rig.where, prompt: PROMPT }])
      saw(context, rig, report!)
      return report!.firstLineMs
    }
    // The first of each makes folders and fills the cache of the disk.
    const starts = context.short ? 1 : COLD_STARTS * context.rounds + 1
    for (let i = 0; i < starts; i++) {
      for (const who of shuffled(['ours', 'hand'] as const, context.seed + i)) {
        const ms = who === 'ours' ? await ours() : (await hand.turn(PROMPT)).firstLineMs
        if (i > 0 || context.short) took[who].push(ms)
      }
      context.say(`  ${i === 0 ? 'warm-up' : `start ${i}`}: ours ${took.ours.at(-1)?.toFixed(0)} ms, by hand ${took.hand.at(-1)?.toFixed(0)} ms`)
    }
  } finally {
    await rig.close()
    await hand.close()
    await model.close()
  }
  const limit = { kind: 'ratio', at: 1.05, better: 'less' } as const
  return [against({ goal: '1', what: 'first event of the real CLI, cold (floor: started by hand)', unit: 'ms', limit }, took.ours, took.hand)]
}

export const latency: Programme = { name: 'latency', about: 'how long until the first line, of the way and of a cold CLI (goal 1)', run }
