import { afterEach, describe, expect, it } from 'vitest'
import { print, startFleet, type Fleet } from './kit/fleet.ts'
import { idsOf, readSse } from './kit/sse.ts'
import { until } from './kit/wait.ts'

const SSE = { accept: 'text/event-stream' }
let fleet: Fleet
afterEach(() => fleet.close())

describe('a run whose events are no longer kept', () => {
  it('keeps its row, has no result, and answers for its events with 410', async () => {
    fleet = await startFleet(undefined, { keep: { ageMs: 0, bytes: 1e9 } })
    await fleet.runner({ turn: print(() => ['{"type":"result","result":"hello"}']) })
    const key = { 'idempotency-key': 'k1' }
    const { events } = await readSse(await fleet.run({ prompt: 'x' }, { ...SSE, ...key }))
    expect(idsOf(events)).toEqual([1, 2, 3])
    const { id } = JSON.parse(events.at(-1)!.data) as { id: string }
    const path = `/v1/runs/${id}`
    expect(await (await fleet.call(path)).json()).toMatchObject({ result: 'hello' })

    await fleet.restart()
    await until('the sweep at the start', async () => (await fleet.call(`${path}/events`)).status === 410)
    for (const after of ['0', '1', '3']) {
      const gone = await fleet.call(`${path}/events?after=${after}`)
      expect([gone.status, await gone.json()]).toMatchObject([410, { code: 'pruned', oldest: null, retryable: false }])
    }
    expect(await (await fleet.call(path)).json()).toMatchObject({ id, status: 'succeeded', result: null, cost_usd: 0.5 })
    const again = await fleet.run({ prompt: 'x' }, { ...SSE, ...key })
    expect([again.status, await again.json()]).toMatchObject([410, { code: 'pruned' }])
    expect(await (await fleet.run({ prompt: 'x' }, key)).json()).toMatchObject({ id, result: null })
    expect((await fleet.call('/v1/runs/run_00000000000000000000000000000000/events')).status).toBe(404)
  })
})

describe('asking for the head of a stream', () => {
  it('does not count as watching the run', async () => {
    fleet = await startFleet()
    await fleet.runner({
      turn: async (sink, _offer, stopped) => {
        sink.line(Buffer.from('{}'))
        await stopped
      },
    })
    const response = await fleet.run({ prompt: 'x', on_disconnect: 'cancel' }, SSE)
    const path = `/v1/runs/${response.headers.get('x-run-id')}`
    const head = await fleet.call(`${path}/events`, { method: 'HEAD' })
    expect([head.status, head.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
    await response.body!.cancel()
    await until('the run to be cancelled', async () => ((await (await fleet.call(path)).json()) as { status: string }).status === 'cancelled')
    expect((await fleet.call(`${path}/events`, { method: 'HEAD' })).status).toBe(200)
  })
})
