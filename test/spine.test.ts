import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startFleet, print, resultAt, type Fleet } from './kit/fleet.ts'
import { startProxy, type Proxy } from './kit/proxy.ts'
import { eventBytes, idsOf, readSse } from './kit/sse.ts'
import { until } from './kit/wait.ts'

const SSE = { accept: 'text/event-stream' }

describe('a run through router and runner', () => {
  let fleet: Fleet
  beforeAll(async () => {
    fleet = await startFleet()
    await fleet.runner({ turn: print((offer) => [`{"type":"system"}`, `{"type":"result","result":${JSON.stringify(offer.spec.prompt)}}`]) })
  })
  afterAll(() => fleet.close())

  it('streams numbered events and ends with done', async () => {
    const response = await fleet.run({ prompt: 'hello' }, SSE)
    expect(response.status).toBe(200)
    const { events } = await readSse(response)
    expect(events.map((e) => e.event)).toEqual(['started', 'message', 'message', 'done'])
    expect(idsOf(events)).toEqual([1, 2, 3, 4])
    const done = JSON.parse(events[3]!.data)
    expect(done).toMatchObject({ id: response.headers.get('x-run-id'), status: 'succeeded', provider: 'local', cost_usd: 0.5, is_error: false })
    expect(done).not.toHaveProperty('result')
  })

  it('answers with the finished run when no stream was asked for', async () => {
    const response = await fleet.run({ prompt: 'hello' })
    expect(await response.json()).toMatchObject({ status: 'succeeded', result: 'hello', num_turns: 1, session_id: expect.any(String) })
  })

  it('answers 202 at once when asked to, and the run can be read later', async () => {
    const response = await fleet.run({ prompt: 'later' }, { prefer: 'respond-async' })
    expect(response.status).toBe(202)
    const location = response.headers.get('location')!
    const run = await until('the run to end', async () => {
      const body = (await (await fleet.call(location)).json()) as { status: string; result: string }
      return body.status === 'succeeded' && body
    })
    expect(run.result).toBe('later')
  })

  it('replays the same bytes from any event on', async () => {
    const first = await readSse(await fleet.run({ prompt: 'again' }, SSE))
    const { id } = JSON.parse(first.events.at(-1)!.data) as { id: string }
    const replay = await readSse(await fleet.call(`/v1/runs/${id}/events`))
    expect(eventBytes(replay.bytes).equals(eventBytes(first.bytes))).toBe(true)
    const rest = await readSse(await fleet.call(`/v1/runs/${id}/events`, { headers: { 'last-event-id': '2' } }))
    expect(eventBytes(first.bytes).toString().endsWith(eventBytes(rest.bytes).toString())).toBe(true)
    expect(idsOf(rest.events)).toEqual([3, 4])
    expect((await fleet.call(`/v1/runs/${id}/events?after=4`)).status).toBe(204)
    expect((await fleet.call(`/v1/runs/${id}/events?after=5`)).status).toBe(400)
    expect((await fleet.call(`/v1/runs/${id}/events?after=x`)).status).toBe(400)
  })
})

describe('a link that is cut in the middle of a run', () => {
  let fleet: Fleet
  let proxy: Proxy
  beforeAll(async () => {
    fleet = await startFleet()
    proxy = await startProxy(Number(new URL(fleet.router.url).port))
  })
  afterAll(async () => {
    await fleet.close()
    await proxy.close()
  })

  it('loses, repeats and reorders nothing, with a 2 MB line among the others', async () => {
    const lines = Array.from({ length: 400 }, (_, i) =>
      i === 200 ? `{"n":${i},"pad":"${'€'.repeat(700_000)}"}` : `{"n":${i},"pad":"${'x'.repeat(i * 7)}"}`,
    )
    let cuts = 0
    await fleet.runner({
      via: proxy.port,
      turn: async (sink) => {
        let seq = 0
        for (const [i, line] of lines.entries()) {
          seq = sink.line(Buffer.from(line))
          if (i % 80 === 40 || i === 200) {
            const before = proxy.bytes
            await until('something to be under way', () => proxy.bytes > before)
            proxy.cut()
            cuts++
          }
        }
        return { result: resultAt(seq) }
      },
    })
    const { events } = await readSse(await fleet.run({ prompt: 'cut me' }, SSE))
    expect(cuts).toBe(5)
    expect(idsOf(events)).toEqual(Array.from({ length: 402 }, (_, i) => i + 1))
    expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
    expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'succeeded' })
  })
})
