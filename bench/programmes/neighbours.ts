/**
 * Goal 7, second half: how late the lines of quiet streams are while something large goes on beside them, on the same
 * router and the same runner: one stream that prints as fast as it can, or a burst of cold starts of the real CLI.
 *
 * The floor of a burst is the bare relay beside as many cold starts by hand, one for each processor at a time: that is
 * what the machine alone does to it.
 */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fakeClaude } from '../fake/build.ts'
import { openTwoHop } from '../floor/floors.ts'
import { LoadClient } from '../load/client.ts'
import { Histogram } from '../load/histogram.ts'
import { LINE_BYTES, saw } from '../measure.ts'
import { against, rounds, type Context, type Programme, type Row, type Samples } from '../programme.ts'
import { openByHand, openModel, REAL_CLI } from '../real-cli.ts'
import { openRig, type Target } from '../rig.ts'

const STREAMS = 16
const PACE_MS = 50
const FAT_LINES = 300_000
const STARTS = 8
const REST_MS = 1_000
const ALONE_MS = 3_000
const SLICE_MS = 100
/** Runs with this model go to the fake CLI, where both are to be had. */
const PACED = 'paced'

const TARGETS = ['ours', 'two-hop'] as const
type Beside = (name: (typeof TARGETS)[number]) => Promise<void>

type Stage = { readonly context: Context; readonly quiet: LoadClient; readonly loud: LoadClient }

async function run(context: Context): Promise<Row[]> {
  const stage = { context, quiet: await LoadClient.start(), loud: await LoadClient.start() }
  try {
    const fat = await besideFat(stage)
    const burst = await besideBurst(stage)
    const p50 = { kind: 'absolute', at: 10, better: 'less' } as const
    return [
      row(fat, { goal: '7', what: 'lag p50 of neighbours beside 300,000 events at once (floor: two-hop)', limit: p50 }, 'beside p50'),
      row(fat, { what: 'lag p99 of neighbours beside 300,000 events at once' }, 'beside p99'),
      row(fat, { what: 'lag p50 of neighbours by themselves' }, 'alone p50'),
      row(fat, { what: 'lag p99 of neighbours by themselves' }, 'alone p99'),
      row(burst, { what: `lag p50 of neighbours beside ${STARTS} cold starts (floor: two-hop, started by hand)` }, 'beside p50'),
      row(burst, { what: `lag p99 of neighbours beside ${STARTS} cold starts` }, 'beside p99'),
      row(burst, { what: `longest lag of neighbours beside ${STARTS} cold starts` }, 'beside max'),
    ]
  } finally {
    await stage.quiet.stop()
    await stage.loud.stop()
  }
}

type About = { readonly goal?: string; readonly what: string; readonly limit?: Row['limit'] }

function row(samples: Samples<(typeof TARGETS)[number]>, { goal = '', what, limit }: About, of: string): Row {
  return against({ goal, what, unit: 'ms', ...(limit ? { limit } : {}) }, samples.ours[of] ?? [], samples['two-hop'][of] ?? [])
}

async function besideFat(stage: Stage) {
  const targets: Target[] = []
  try {
    targets.push(await openRig({ slots: STREAMS + 1 }), await openTwoHop())
    const plan = { bytes: LINE_BYTES, lines: stage.context.short ? FAT_LINES / 20 : FAT_LINES }
    const fat: Beside = async (name) => {
      const target = targets.find((one) => one.name === name)!
      for (const report of await stage.loud.all([{ ...target.where, plan }])) saw(stage.context, target, report)
    }
    return await eachRound(stage, targets, {}, fat)
  } finally {
    for (const target of targets) await target.close()
  }
}

async function besideBurst(stage: Stage) {
  const { context, loud } = stage
  const model = await openModel()
  const hand = await openByHand(loud, model)
  const both = await eitherCli()
  const targets: Target[] = []
  try {
    targets.push(await openRig({ slots: STREAMS + STARTS, claude: both.path, runnerEnv: model.env }), await openTwoHop())
    const starts = context.short ? 1 : STARTS
    const ours = targets[0]!
    const burst: Beside = async (name) => {
      if (name === 'two-hop') return byHand(() => hand.turn('Say hello.'), starts)
      const reports = await loud.all(Array.from({ length: starts }, () => ({ ...ours.where, prompt: 'Say hello.' })))
      for (const report of reports) saw(context, ours, report)
    }
    return await eachRound(stage, targets, { model: PACED }, burst)
  } finally {
    for (const target of targets) await target.close()
    await both.remove()
    await hand.close()
    await model.close()
  }
}

/** Quiet streams of a target, looked at by themselves first and then for as long as what is beside them takes. */
async function eachRound({ context, quiet }: Stage, targets: readonly Target[], body: Readonly<Record<string, unknown>>, beside: Beside) {
  const plan = { bytes: LINE_BYTES, everyMs: PACE_MS }
  return rounds(context, TARGETS, async (name) => {
    const target = targets.find((one) => one.name === name)!
    const opened = await quiet.open(Array.from({ length: context.short ? 2 : STREAMS }, () => ({ ...target.where, plan, body })))
    if (!context.short) await sleep(REST_MS)
    const { lags: alone } = await quiet.look(context.short ? SLICE_MS : ALONE_MS)
    const lags = await lagsDuring(quiet, beside(name))
    await quiet.cancel(opened)
    for (const report of await quiet.ended(opened)) saw(context, target, report)
    return { 'alone p50': alone.ms(0.5), 'alone p99': alone.ms(0.99), 'beside p50': lags.ms(0.5), 'beside p99': lags.ms(0.99), 'beside max': lags.maxMs }
  })
}

async function lagsDuring(quiet: LoadClient, work: Promise<void>): Promise<Histogram> {
  const lags = new Histogram()
  const state = { over: false }
  const end = () => void (state.over = true)
  work.then(end, end)
  while (!state.over) lags.merge((await quiet.look(SLICE_MS)).lags.pack())
  await work
  return lags
}

async function byHand(turn: () => Promise<unknown>, times: number): Promise<void> {
  let left = times
  const lane = async () => {
    while (left-- > 0) await turn()
  }
  await Promise.all(Array.from({ length: availableParallelism() }, lane))
}

/** A program that is the fake CLI for one model and the real one for all others. */
async function eitherCli(): Promise<{ path: string; remove: () => Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'runyard-bench-cli-'))
  const path = join(dir, 'claude')
  await writeFile(path, `#!/bin/sh\ncase "$*" in *--model=${PACED}*) exec '${await fakeClaude()}' "$@" ;; esac\nexec '${REAL_CLI}' "$@"\n`)
  await chmod(path, 0o755)
  return { path, remove: () => rm(dir, { recursive: true, force: true }) }
}

export const neighbours: Programme = { name: 'neighbours', about: 'how late quiet streams are beside a loud one and beside cold starts (goal 7)', run }
