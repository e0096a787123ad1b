/** What is measured of a host: how much it takes at once, what that costs it, and how late an event is. */
import { setTimeout as sleep } from 'node:timers/promises'
import { quantile } from '../test/chaos/table.ts'
import { call } from '../test/chaos/subscriber.ts'
import type { Rig } from './rig.ts'
import { stream } from './stream.ts'

export const LINE_BYTES = 200
const PACE_MS = 50
/** For what is started to come to rest. */
const REST_MS = 1_000

export interface Bulk {
  readonly events_per_s: number
  /** Of the process that serves, for 100,000 events. */
  readonly router_cpu_s: number
  readonly runner_cpu_s: number
}

/** `runs` at once of `lines` each, from the POST to the end of the last stream. */
export async function bulk(rig: Rig, runs: number, lines: number): Promise<Bulk> {
  const before = await rig.cpu()
  const began = performance.now()
  const streams = await Promise.all(Array.from({ length: runs }, () => stream(rig.where, { bytes: LINE_BYTES, lines })))
  await Promise.all(streams.map(({ ended }) => ended))
  const seconds = (performance.now() - began) / 1_000
  const after = await rig.cpu()
  const events = streams.reduce((sum, s) => sum + s.events, 0)
  const of100k = 100_000 / events
  return { events_per_s: events / seconds, router_cpu_s: (after.router - before.router) * of100k, runner_cpu_s: (after.runner - before.runner) * of100k }
}

export interface Lag {
  readonly p50_ms: number
  readonly p99_ms: number
  /** What one stream costs the process that serves, in ms of CPU for each second that it is open. */
  readonly cpu_ms_per_stream: number
}

/** `runs` at once of 20 lines a second each, looked at for `seconds` once all of them print. */
export async function lag(rig: Rig, runs: number, seconds: number): Promise<Lag> {
  const lags: number[] = []
  let looking = false
  const note = (ms: number) => void (looking && lags.push(ms))
  const streams = await Promise.all(Array.from({ length: runs }, () => stream(rig.where, { bytes: LINE_BYTES, everyMs: PACE_MS }, note)))
  await Promise.all(streams.map(({ begun }) => begun))
  await sleep(REST_MS)
  const before = await rig.cpu()
  const began = performance.now()
  looking = true
  await sleep(seconds * 1_000)
  looking = false
  const after = await rig.cpu()
  const openS = ((performance.now() - began) / 1_000) * runs
  await Promise.all(streams.map(({ run }) => call(rig.where, 'POST', `/v1/runs/${run}/cancel`)))
  await Promise.all(streams.map(({ ended }) => ended))
  return { p50_ms: quantile(lags, 0.5), p99_ms: quantile(lags, 0.99), cpu_ms_per_stream: ((after.router - before.router) * 1_000) / openS }
}
