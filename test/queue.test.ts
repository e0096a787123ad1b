import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Fault } from '../shared/faults.ts'
import { findRun } from '../router/store/runs.ts'
import { resultAt, startFleet, type Fleet, type Turn } from './kit/fleet.ts'
import { idsOf, readSse } from './kit/sse.ts'
import { until } from './kit/wait.ts'

const SSE = { accept: 'text/event-stream' }
type Json = Record<string, unknown>

/** A CLI whose turns end when the test says so, by the prompt. */
function gate() {
  const open = new Map<string, () => void>()
  const order: string[] = []
  const turn: Turn = async (sink, offer, stopped) => {
    const seq = sink.line(Buffer.from(JSON.stringify({ prompt: offer.spec.prompt })))
    order.push(offer.spec.prompt)
    const ended = await Promise.race([new Promise<'opened'>((resolve) => open.set(offer.spec.prompt, () => resolve('opened'))), stopped])
    return ended === 'opened' ? { result: resultAt(seq) } : {}
  }
  const finish = async (prompt: string) => (await until(`${prompt} to run`, () => open.get(prompt)))()
  return { turn, order, finish }
}

/** What the tests of one fleet say all the time. */
function at(fleet: () => Fleet, cli: () => ReturnType<typeof gate>) {
  const start = async (prompt: string, body: Json = {}) => {
    const response = await fleet().run({ prompt, ...body }, { prefer: 'respond-async' })
    expect(response.status).toBe(202)
    return (await response.json()) as Json & { id: string; status: string; session_id: string; queue_position?: number }
  }
  const get = async (id: string) =>
    (await (await fleet().call(`/v1/runs/${id}`)).json()) as Json & { status: string; queue_position?: number; error?: { code: string } }
  const running = (prompt: string) => until(`${prompt} to run`, () => cli().order.includes(prompt))
  return { start, get, running }
}

describe('a run that finds no free slot', () => {
  let fleet: Fleet
  let cli: ReturnType<typeof gate>
  beforeEach(async () => {
    fleet = await startFleet()
    cli = gate()
  })
  afterEach(() => fleet.close())

  const { start, get, running } = at(() => fleet, () => cli)

  it('waits its turn by priority, then age, and says where it stands', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await start('first')
    await running('first')
    const b = await start('b')
    const c = await start('c')
    const urgent = await start('urgent', { priority: 9 })
    expect([b, c].map((r) => r.status)).toEqual(['queued', 'queued'])
    expect((await get(urgent.id)).queue_position).toBe(1)
    expect((await get(b.id)).queue_position).toBe(2)
    expect((await get(c.id)).queue_position).toBe(3)
    for (const prompt of ['first', 'urgent', 'b', 'c']) await cli.finish(prompt)
    await until('all to end', async () => (await get(c.id)).status === 'succeeded')
    expect(cli.order).toEqual(['first', 'urgent', 'b', 'c'])
    expect(await get(c.id)).not.toHaveProperty('queue_position')
  })

  it('shows its place on its events route, without an id, and goes on into the stream', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await start('first')
    await running('first')
    const { id } = await start('second')
    const reading = readSse(await fleet.call(`/v1/runs/${id}/events`))
    await cli.finish('first')
    await cli.finish('second')
    const { events } = await reading
    const queued = events.filter((e) => e.event === 'queued')
    expect(queued[0]).toMatchObject({ id: undefined, data: '{"position":1}' })
    expect(idsOf(events.filter((e) => e.event !== 'queued'))).toEqual([1, 2, 3])
  })

  it('holds the status line of an interactive request until there is a slot', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await start('first')
    await running('first')
    const waiting = fleet.run({ prompt: 'second' }, SSE)
    await cli.finish('first')
    const response = await waiting
    expect(response.status).toBe(200)
    await cli.finish('second')
    expect((await readSse(response)).events.at(-1)!.event).toBe('done')
  })

  it('answers 429 with Retry-After when no slot came free in time, and leaves nothing behind', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    const first = await start('first')
    await running('first')
    const response = await fleet.run({ prompt: 'second', queue_timeout_s: 0 }, SSE)
    expect(response.status).toBe(429)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await response.json()).toMatchObject({ code: 'busy' })
    const list = (await (await fleet.call('/v1/runs')).json()) as { data: Json[] }
    expect(list.data.map((r) => r['id'])).toEqual([first.id])
    await cli.finish('first')
  })

  it('answers 503 when no runner fits, and waits for one that is on its way', async () => {
    const none = await fleet.run({ prompt: 'x', pool: 'gpu', labels: { os: 'plan9' }, queue_timeout_s: 0 })
    expect(none.status).toBe(503)
    expect(await none.json()).toMatchObject({ code: 'no_runner', detail: expect.stringContaining('pool gpu with labels os=plan9') })
    const waiting = fleet.run({ prompt: 'early' }, SSE)
    await fleet.runner({ turn: cli.turn })
    await cli.finish('early')
    expect((await waiting).status).toBe(200)
  })

  it('survives a restart of the router', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    const first = await start('first')
    await running('first')
    const second = await start('second')
    await fleet.restart()
    expect((await get(second.id)).status).toBe('queued')
    await cli.finish('first')
    await cli.finish('second')
    await until('both to end', async () => (await get(first.id)).status === 'succeeded' && (await get(second.id)).status === 'succeeded')
    expect(cli.order).toEqual(['first', 'second'])
  })

  it('can be cancelled while it waits, and ends as a run', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await start('first')
    await running('first')
    const { id } = await start('second')
    expect((await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status).toBe(200)
    expect(await get(id)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
    const { events } = await readSse(await fleet.call(`/v1/runs/${id}/events`))
    expect(events.map((e) => e.event)).toEqual(['done'])
    await cli.finish('first')
    expect(cli.order).toEqual(['first'])
  })

  it('has one turn at a time for a session, queued or refused as the caller likes', async () => {
    await fleet.runner({ turn: cli.turn, slots: 4 })
    const first = await start('first')
    const session = (await get(first.id))['session_id']
    await running('first')
    const refused = await fleet.run({ prompt: 'no', session_id: session, on_busy: 'reject' })
    expect(refused.status).toBe(409)
    expect(await refused.json()).toMatchObject({ code: 'session_busy' })
    const second = await start('second', { session_id: session })
    const third = await start('third', { session_id: session })
    expect((await get(second.id)).status).toBe('queued')
    await cli.finish('first')
    await cli.finish('second')
    await cli.finish('third')
    await until('all to end', async () => (await get(third.id)).status === 'succeeded')
    expect(cli.order).toEqual(['first', 'second', 'third'])
  })
})

describe('a line that somebody holds up', () => {
  let fleet: Fleet
  let cli: ReturnType<typeof gate>
  beforeEach(async () => {
    fleet = await startFleet()
    cli = gate()
  })
  afterEach(() => fleet.close())

  const { start, get, running } = at(() => fleet, () => cli)

  it('passes by a run whose session has a turn in progress', async () => {
    await fleet.runner({ turn: cli.turn, slots: 2 })
    const { session_id: session } = await start('s1')
    await running('s1')
    await start('y')
    await running('y')
    const waiting = await start('s2', { session_id: session })
    await start('x')
    await cli.finish('y')
    await running('x')
    expect((await get(waiting.id)).status).toBe('queued')
    await cli.finish('s1')
    await running('s2')
    for (const prompt of ['x', 's2']) await cli.finish(prompt)
  })

  it('tells a caller whose run waits for the next router not to send it again', async () => {
    await fleet.runner({ turn: cli.turn, slots: 1 })
    await start('first')
    await running('first')
    const held = fleet.run({ prompt: 'second' }, SSE)
    await until('it to wait', async () => ((await (await fleet.call('/v1/runs?status=queued')).json()) as { data: unknown[] }).data.length === 1)
    await fleet.restart()
    const response = await held
    expect(response.status).toBe(503)
    expect(response.headers.get('x-should-retry')).toBe('false')
    const { run_id: id, retryable } = (await response.json()) as { run_id: string; retryable: boolean }
    expect(retryable).toBe(false)
    await cli.finish('first')
    await cli.finish('second')
    await until('it to end', async () => (await get(id)).status === 'succeeded')
  })

  it('keeps no prompt of a run that has started', async () => {
    await fleet.runner({ turn: cli.turn })
    const { id } = await start('secret words')
    await running('secret words')
    await cli.finish('secret words')
    await until('it to end', async () => (await get(id)).status === 'succeeded')
    const row = await findRun(fleet.router.deps.store.db, 'default', id)
    expect(row?.spec).toBeNull()
  })

  it('does not forget a cancel that came while the run was being offered', async () => {
    let refuse: () => void = () => undefined
    const asked = new Promise<void>((resolve) => (refuse = resolve))
    let offers = 0
    await fleet.runner({
      turn: cli.turn,
      slots: 1,
      prepare: async () => {
        offers++
        await asked
        throw new Fault('busy')
      },
    })
    const posted = fleet.run({ prompt: 'x' }, { prefer: 'respond-async' })
    await until('the offer', () => offers > 0)
    const { data } = (await (await fleet.call('/v1/runs')).json()) as { data: { id: string }[] }
    const { id } = data[0]!
    await fleet.call(`/v1/runs/${id}`)
    await fleet.call(`/v1/runs/${id}/cancel`, { method: 'POST' })
    refuse()
    await posted
    expect(await until('the end', async () => (await get(id)).status !== 'queued' && (await get(id)).status)).toBe('cancelled')
  })
})

describe('the same request more than once', () => {
  let fleet: Fleet
  let cli: ReturnType<typeof gate>
  beforeEach(async () => {
    fleet = await startFleet()
    cli = gate()
    await fleet.runner({ turn: cli.turn, slots: 8 })
  })
  afterEach(() => fleet.close())

  it('makes one run of a hundred equal posts, and gives each its stream', async () => {
    const posts = Array.from({ length: 100 }, () => fleet.run({ prompt: 'once' }, { ...SSE, 'idempotency-key': 'k1' }))
    await cli.finish('once')
    const responses = await Promise.all(posts)
    expect(new Set(responses.map((r) => r.status))).toEqual(new Set([200]))
    expect(new Set(responses.map((r) => r.headers.get('x-run-id'))).size).toBe(1)
    const streams = await Promise.all(responses.map((r) => readSse(r)))
    for (const { events } of streams) expect(events.map((e) => e.event)).toEqual(['started', 'message', 'done'])
    expect(cli.order).toEqual(['once'])
    const late = await fleet.run({ prompt: 'once' }, { 'idempotency-key': 'k1' })
    expect(await late.json()).toMatchObject({ id: responses[0]!.headers.get('x-run-id'), status: 'succeeded' })
  })

  it('takes white space and the order of keys for the same body, and another body for a mistake', async () => {
    const send = (body: string) => fleet.call('/v1/runs', { method: 'POST', body, headers: { prefer: 'respond-async', 'idempotency-key': 'k2' } })
    const first = (await (await send('{"prompt":"p","metadata":{"a":"1","b":"2"}}')).json()) as Json
    const again = (await (await send('{ "metadata": {"b":"2", "a":"1"}, "prompt": "p" }')).json()) as Json
    expect(again['id']).toBe(first['id'])
    const other = await send('{"prompt":"q"}')
    expect(other.status).toBe(422)
    expect(await other.json()).toMatchObject({ code: 'idempotency' })
    await cli.finish('p')
  })

  it('frees the key of a refused run, and keeps keys of tenants apart', async () => {
    const headers = { 'idempotency-key': 'k3' }
    expect((await fleet.run({ prompt: 'x', pool: 'none', queue_timeout_s: 0 }, headers)).status).toBe(503)
    const response = fleet.run({ prompt: 'y' }, { ...SSE, ...headers })
    await cli.finish('y')
    expect((await response).status).toBe(200)
    expect((await fleet.run({ prompt: 'z' }, { 'idempotency-key': 'bad key' })).status).toBe(400)
  })
})

describe('a run whose subscribers leave', () => {
  let fleet: Fleet
  let cli: ReturnType<typeof gate>
  beforeEach(async () => {
    fleet = await startFleet()
    cli = gate()
    await fleet.runner({ turn: cli.turn })
  })
  afterEach(() => fleet.close())

  const leave = async (body: Json) => {
    const response = await fleet.run(body, SSE)
    await readSse(response, (events) => events.length >= 2)
    return response.headers.get('x-run-id')!
  }
  const status = async (id: string) => ((await (await fleet.call(`/v1/runs/${id}`)).json()) as Json)['status']

  it('goes on by default', async () => {
    const id = await leave({ prompt: 'stay' })
    await cli.finish('stay')
    expect(await until('the end', async () => (await status(id)) !== 'running' && status(id))).toBe('succeeded')
  })

  it('is cancelled when it asked for that, but not while somebody else still watches', async () => {
    const response = await fleet.run({ prompt: 'go', on_disconnect: 'cancel' }, SSE)
    const id = response.headers.get('x-run-id')!
    const other = readSse(await fleet.call(`/v1/runs/${id}/events`), (events) => events.length >= 2)
    await readSse(response, (events) => events.length >= 2)
    await other
    expect(await until('the end', async () => (await status(id)) !== 'running' && status(id))).toBe('cancelled')
  })

  it('is given up after the time it grants, unless somebody comes back', async () => {
    const id = await leave({ prompt: 'wait', on_disconnect: { detach_for_s: 1 } })
    const back = readSse(await fleet.call(`/v1/runs/${id}/events`))
    await cli.finish('wait')
    expect(JSON.parse((await back).events.at(-1)!.data)).toMatchObject({ status: 'succeeded' })
    const gone = await leave({ prompt: 'gone', on_disconnect: { detach_for_s: 1 } })
    expect(await until('the end', async () => (await status(gone)) !== 'running' && status(gone))).toBe('cancelled')
  })
})
