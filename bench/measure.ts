/** What is measured of any target: how much it takes at once and what that costs it, and how late a line is. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LoadClient, StreamReport } from './load/client.ts'
import type { Context } from './programme.ts'
import type { Target } from './rig.ts'

export const LINE_BYTES = 200
const PACE_MS = 50
/** For what is started to come to rest. */
const REST_MS = 1_000

export interface Bulk {
  /** Lines of the CLI, from the first POST to the end of the last stream. */
  readonly eventsPerS: number
  /** For 100,000 lines. */
  readonly routerCpuS: number
  readonly runnerCpuS: number
  readonly runs: readonly StreamReport[]
}

/** `runs` at once of `lines` each. */
export async function bulk(context: Context, client: LoadClient, target: Target, { runs, lines }: { runs: number; lines: number }): Promise<Bulk> {
  const before = await target.used()
  const began = performance.now()
  const reports = await client.all(Array.from({ length: runs }, () => ({ ...target.where, plan: { bytes: LINE_BYTES, lines } })))
  const seconds = (performance.now() - began) / 1_000
  const after = await target.used()
  for (const report of reports) saw(context, target, report)
  const of100k = 100_000 / reports.reduce((sum, report) => sum + report.lines, 0)
  return {
    eventsPerS: 100_000 / of100k / seconds,
    routerCpuS: (after.router.cpuS - before.router.cpuS) * of100k,
    runnerCpuS: ((after.runner?.cpuS ?? 0) - (before.runner?.cpuS ?? 0)) * of100k,
    runs: reports,
  }
}

export interface Lag {
  readonly p50Ms: number
  readonly p99Ms: number
  /** What one stream costs the process that serves, in ms of CPU for each second that it is open. */
  readonly cpuMsPerStream: number
}

/** `streams` at once of 20 lines a second each, looked at for `lookMs` once all of them print. */
export async function lag(context: Context, client: LoadClient, target: Target, { streams, lookMs }: { streams: number; lookMs: number }): Promise<Lag> {
  const opened = await client.open(Array.from({ length: streams }, () => ({ ...target.where, plan: { bytes: LINE_BYTES, everyMs: PACE_MS } })))
  await sleep(REST_MS)
  const before = await target.used()
  const { lags, seconds } = await client.look(lookMs)
  const after = await target.used()
  await client.cancel(opened)
  for (const report of await client.ended(opened)) saw(context, target, report)
  return { p50Ms: lags.ms(0.5), p99Ms: lags.ms(0.99), cpuMsPerStream: ((after.router.cpuS - before.router.cpuS) * 1_000) / (seconds * streams) }
}

/** Counts what a stream was like, and says what was wrong with it. */
export function saw(context: Context, target: Pick<Target, 'name'>, { counts, status, said, run, lines }: StreamReport): void {
  context.saw(counts)
  if (Object.values(counts).every((n) => n === 0)) return
  context.say(`  ${target.name}: run ${run} answered ${status}, ${lines} lines, ${JSON.stringify(counts)}${said === undefined ? '' : `: ${said}`}`)
}
