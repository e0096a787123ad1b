/** The process of the load client: does what client.ts asks. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { answer } from '../children.ts'
import type { Direct, Opened, StreamReport, StreamSpec } from './client.ts'
import { direct } from './direct.ts'
import { Histogram } from './histogram.ts'
import type { Look } from './reader.ts'
import { Stream } from './stream.ts'

const streams = new Map<number, Stream>()
let lastHandle = 0
let look: Look | undefined

answer({
  open: async ({ specs, atOnce }: { specs: readonly StreamSpec[]; atOnce: number }): Promise<Opened[]> =>
    eachOf(specs, atOnce, async (spec) => {
      const handle = ++lastHandle
      const stream = new Stream(spec, () => look)
      streams.set(handle, stream)
      await stream.begun
      return { handle, run: stream.run, salt: stream.salt, status: stream.status }
    }),
  ended: (handles: readonly number[]): Promise<StreamReport[]> =>
    Promise.all(
      handles.map(async (handle) => {
        const report = await streams.get(handle)!.ended
        streams.delete(handle)
        return report
      }),
    ),
  look: async (ms: number) => {
    look = { lags: new Histogram(), lines: 0 }
    const late = monitorEventLoopDelay({ resolution: 5 })
    late.enable()
    const began = performance.now()
    await sleep(ms)
    const seconds = (performance.now() - began) / 1_000
    late.disable()
    const { lags, lines } = look
    look = undefined
    return { lags: lags.pack(), lines, seconds, lateP99Ms: late.percentile(99) / 1e6 }
  },
  cancel: async ({ handles, atOnce }: { handles: readonly number[]; atOnce: number }) => {
    await eachOf(handles, atOnce, (handle) => streams.get(handle)!.cancel())
  },
  hold: ({ handles, held }: { handles: readonly number[]; held: boolean }) => {
    for (const handle of handles) streams.get(handle)!.hold(held)
  },
  direct: (spec: Direct) => direct(spec),
})

/** In order of the values, whichever is done first. */
async function eachOf<T, R>(values: readonly T[], atOnce: number, work: (value: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const lane = async () => {
    while (next < values.length) {
      const at = next++
      results[at] = await work(values[at]!)
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, values.length) }, lane))
  return results
}
