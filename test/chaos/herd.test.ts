/** A hundred runners with five live runs each, all of them cut off at once by a restart of the router. */
import { setMaxListeners } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fleet } from '../kit/fleet.ts'
import { startNodeFleet } from '../kit/host-node.ts'
import { resultAt } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { endingOf } from './oracle.ts'
import { follow } from './subscriber.ts'
import { gapNumbers, gaps } from './table.ts'

const RUNNERS = 100
const SLOTS = 5
const LINE_EVERY_MS = 1_000
const RESUMED_WITHIN_MS = 10_000

describe('a herd of runners', () => {
  let fleet: Fleet
  const printing = new AbortController()

  beforeAll(async () => {
    fleet = await startNodeFleet()
    for (let n = 0; n < RUNNERS; n += 10) {
      await Promise.all(
        Array.from({ length: 10 }, (_, i) =>
          fleet.runner({
            name: `r${n + i}`,
            slots: SLOTS,
            turn: async (sink) => {
              let seq = sink.line(Buffer.from('{"type":"system"}'))
              await new Promise((resolve) => setTimeout(resolve, Math.random() * LINE_EVERY_MS))
              while (!printing.signal.aborted) {
                seq = sink.line(Buffer.from(`{"type":"stream_event","after":${seq}}`))
                await new Promise((resolve) => setTimeout(resolve, LINE_EVERY_MS))
              }
              return { result: resultAt(sink.line(Buffer.from('{"type":"result"}'))) }
            },
          }),
        ),
      )
    }
  }, 120_000)
  afterAll(() => fleet.close(), 60_000)

  it('has every run of all of them going on within 10 s', { timeout: 120_000 }, async () => {
    const where = () => ({ port: Number(new URL(fleet.url).port), token: fleet.token })
    const runs = await Promise.all(
      Array.from({ length: RUNNERS * SLOTS }, async () => {
        const response = await fleet.run({ prompt: 'go' }, { prefer: 'respond-async' })
        return ((await response.json()) as { id: string }).id
      }),
    )
    const { signal } = new AbortController()
    setMaxListeners(0, signal)
    const watching = runs.map((run) => follow({ where, run, what: run, after: 0, signal }))
    const live = async () => {
      const { data } = (await (await fleet.call('/v1/runners')).json()) as { data: { busy: number }[] }
      return data.reduce((sum, { busy }) => sum + busy, 0)
    }
    await until('every slot to be taken', async () => (await live()) === RUNNERS * SLOTS, 60_000)
    await new Promise((resolve) => setTimeout(resolve, 3 * LINE_EVERY_MS))
    const struckAt = performance.now()
    await fleet.restart()
    await new Promise((resolve) => setTimeout(resolve, RESUMED_WITHIN_MS))
    printing.abort()
    const watches = await Promise.all(watching)
    const silence = gapNumbers(gaps(watches, [struckAt]))
    process.stdout.write(`${runs.length} runs on ${RUNNERS} runners: silent for p50 ${silence.p50} ms, p99 ${silence.p99} ms, at most ${silence.max} ms\n`)
    expect(silence.n).toBe(runs.length)
    expect(silence.max).toBeLessThan(RESUMED_WITHIN_MS)
    expect(watches.map((watch) => endingOf(watch).status)).toEqual(runs.map(() => 'succeeded'))
    for (const { events } of watches) expect(events.map(({ id }) => id)).toEqual(events.map((_, i) => i + 1))
  })
})
