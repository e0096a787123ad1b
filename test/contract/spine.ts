/** One run and everything that can be read of it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { eventBytes, idsOf, readSse, SSE } from '../kit/sse.ts'
import { echo, gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'

export function spine(host: Host): void {
  describe('a run through router and runner', () => {
    let fleet: Fleet
    beforeAll(async () => {
      fleet = await startFleet(host, {})
      await fleet.runner({ turn: echo })
    })
    afterAll(() => fleet.close())

    it('streams numbered events and ends with done', async () => {
      const response = await fleet.run({ prompt: 'hello' }, SSE)
      expect(response.status).toBe(200)
      expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
      expect(response.headers.get('x-should-retry')).toBe('false')
      expect(response.headers.get('x-request-id')).toMatch(/^[\w-]{8,}$/)
      const { events, text } = await readSse(response)
      expect(text).toMatch(/^retry: \d+\n\n/)
      expect(events.map((e) => e.event)).toEqual(['started', 'message', 'message', 'done'])
      expect(idsOf(events)).toEqual([1, 2, 3, 4])
      expect(events.slice(1, 3).map((e) => e.data)).toEqual(['{"type":"system"}', '{"type":"result","result":"hello"}'])
      const done = JSON.parse(events[3]!.data) as Json
      const id = response.headers.get('x-run-id')
      expect(done).toMatchObject({ id, status: 'succeeded', provider: 'local', cost_usd: 0.5, is_error: false })
      expect(done).not.toHaveProperty('result')
    })

    it('answers with the finished run when no stream was asked for', async () => {
      const response = await fleet.run({ prompt: 'hello' })
      expect(response.headers.get('x-should-retry')).toBe('false')
      const run = (await response.json()) as Json
      expect(run).toMatchObject({ status: 'succeeded', result: 'hello', num_turns: 1, session_id: expect.any(String) })
    })

    it('answers 202 at once when asked to, and the run can be read later', async () => {
      const response = await fleet.run({ prompt: 'later', metadata: { ticket: '7' } }, { prefer: 'respond-async' })
      expect(response.status).toBe(202)
      expect(response.headers.get('preference-applied')).toBe('respond-async')
      const { id } = (await response.json()) as { id: string }
      expect(response.headers.get('location')).toBe(`/v1/runs/${id}`)
      expect(await fleet.until(id, 'succeeded')).toMatchObject({ result: 'later', metadata: { ticket: '7' } })
    })

    it('replays the same bytes from any event on', async () => {
      const first = await readSse(await fleet.run({ prompt: 'again' }, SSE))
      const { id } = JSON.parse(first.events.at(-1)!.data) as { id: string }
      const path = `/v1/runs/${id}/events`
      const replay = await readSse(await fleet.call(path))
      expect(eventBytes(replay.bytes).equals(eventBytes(first.bytes))).toBe(true)
      const header = { 'last-event-id': '2' }
      for (const [query, headers] of [['', header], ['?after=2', {}], ['?after=0', header]] as const) {
        const rest = await readSse(await fleet.call(path + query, { headers }))
        expect(eventBytes(first.bytes).toString().endsWith(eventBytes(rest.bytes).toString())).toBe(true)
        expect(idsOf(rest.events)).toEqual([3, 4])
      }
      expect((await fleet.call(`${path}?after=4`)).status).toBe(204)
      for (const bad of ['5', 'x', '-1', '1.5', '99999999999999999999']) {
        const response = await fleet.call(`${path}?after=${bad}`)
        expect([response.status, await response.json()]).toMatchObject([400, { code: 'event_id' }])
      }
    })

    it('sends the bytes of a line as the CLI printed them', async () => {
      const long = `{"pad":"${'x'.repeat(300_000)}"}`
      const lines = ['{"a": 1,  "b":\t2}', '{"text":"€ 漢字 \\u0000 \\ud800 😀"}', '{"n":1e3,"n":2}', long]
      const theirs = await fleet.as('bytes')
      await theirs.runner({ turn: (sink) => Promise.resolve(lines.forEach((line) => sink.line(Buffer.from(line)))) })
      const { events } = await readSse(await theirs.run({ prompt: 'x' }, SSE))
      expect(events.slice(1, -1).map((e) => e.data)).toEqual(lines)
      expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'failed', error: { code: 'crashed' } })
    })

    it('is shown in a list, newest first, a page at a time', async () => {
      const theirs = await fleet.as('lists')
      await theirs.runner({ turn: echo })
      const ids: string[] = []
      for (const prompt of ['1', '2', '3']) ids.unshift(((await (await theirs.run({ prompt })).json()) as { id: string }).id)
      const page = (await (await theirs.call('/v1/runs?limit=2')).json()) as { data: Json[]; next: string }
      expect(page.data.map((run) => run['id'])).toEqual(ids.slice(0, 2))
      expect(page.data[0]).not.toHaveProperty('result')
      const rest = (await (await theirs.call(`/v1/runs?limit=2&before=${page.next}`)).json()) as { data: Json[]; next: null }
      expect([rest.data.map((run) => run['id']), rest.next]).toEqual([ids.slice(2), null])
      expect(await theirs.list('?status=succeeded')).toHaveLength(3)
      expect(await theirs.list('?status=running')).toEqual([])
      const { session_id: session } = await theirs.get(ids[0]!)
      expect((await theirs.list(`?session_id=${session}`)).map((run) => run.id)).toEqual([ids[0]])
    })

    it('can be followed by many while it runs, from wherever they begin', async () => {
      const theirs = await fleet.as('crowd')
      const cli = gate()
      await theirs.runner({ turn: cli.turn })
      const { id } = await theirs.start({ prompt: 'shared' })
      await cli.running('shared')
      const after = (seq: number, method = 'GET') => theirs.call(`/v1/runs/${id}/events?after=${seq}`, { method })
      await until('its first line', async () => (await after(2, 'HEAD')).status === 200)
      const readers = Array.from({ length: 20 }, async (_, i) => readSse(await after(i % 3)))
      await cli.finish('shared')
      for (const [i, reader] of readers.entries()) expect(idsOf((await reader).events)).toEqual([1, 2, 3].slice(i % 3))
    })

    it('is cancelled when somebody says so, once, and ends as that', async () => {
      const theirs = await fleet.as('cancels')
      const cli = gate()
      await theirs.runner({ turn: cli.turn })
      const { id } = await theirs.start({ prompt: 'long' })
      await cli.running('long')
      const reading = readSse(await theirs.call(`/v1/runs/${id}/events`))
      const cancel = async () => (await theirs.call(`/v1/runs/${id}/cancel`, { method: 'POST' })).status
      for (const status of await Promise.all([cancel(), cancel(), cancel()])) expect([200, 202]).toContain(status)
      const { events } = await reading
      expect(JSON.parse(events.at(-1)!.data)).toMatchObject({ status: 'cancelled', error: { code: 'cancelled' } })
      expect(await cancel()).toBe(200)
      expect(await theirs.get(id)).toMatchObject({ status: 'cancelled' })
    })

    it('can be asked for in HEAD, which does not count as watching it', async () => {
      const theirs = await fleet.as('heads')
      await theirs.runner({
        turn: async (sink, _offer, stopped) => {
          sink.line(Buffer.from('{}'))
          await stopped
        },
      })
      const response = await theirs.run({ prompt: 'x', on_disconnect: 'cancel' }, SSE)
      const id = response.headers.get('x-run-id')!
      const head = await theirs.call(`/v1/runs/${id}/events`, { method: 'HEAD' })
      expect([head.status, head.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
      await response.body!.cancel()
      await theirs.until(id, 'cancelled', host.can.seesClientLeaveWithinMs + 10_000)
      expect((await theirs.call(`/v1/runs/${id}/events`, { method: 'HEAD' })).status).toBe(200)
    })
  })

  describe('what a host tells about itself', () => {
    let fleet: Fleet
    beforeAll(async () => void (fleet = await startFleet(host, {})))
    afterAll(() => fleet.close())

    const json = async (path: string) => {
      const response = await fetch(fleet.url + path)
      return [response.status, await response.json()] as [number, Json]
    }

    it('is alive without a runner, and ready with one', async () => {
      expect(await json('/healthz')).toEqual([200, { status: 'ok' }])
      expect(await json('/readyz')).toMatchObject([503, { status: 'not ready', database: 'ok', runners: 0 }])
      const runner = await fleet.runner({ turn: echo, slots: 3 })
      await until('readiness', async () => (await json('/readyz'))[0] === 200)
      const concurrency = { active: 0, max: 3 }
      expect(await json('/health')).toMatchObject([200, { status: 'ok', claude_version: '0.0.0-test', concurrency }])
      const idle = { status: 'online', slots: 3, busy: 0, provider: 'local' }
      expect(await fleet.runners()).toMatchObject([{ id: runner.id, name: 'test', pool: 'default', ...idle }])
      await runner.stop()
      await until('readiness to be gone', async () => (await json('/readyz'))[0] === 503)
      expect(await fleet.runners()).toMatchObject([{ id: runner.id, status: 'offline' }])
    })

    it('shows its public key and its routes to everybody', async () => {
      const [status, jwks] = await json('/.well-known/jwks.json')
      expect([status, jwks]).toEqual([200, fleet.host.keys.jwks])
      expect(JSON.stringify(jwks)).not.toContain('"d"')
      const [, document] = await json('/openapi.json')
      expect(document).toMatchObject({ openapi: '3.1.0', info: { title: 'Runyard' } })
      const routes = ['/v1/runs', '/v1/runs/{id}', '/v1/runs/{id}/events', '/v1/runners']
      expect(Object.keys(document['paths'] as Json)).toEqual(expect.arrayContaining(routes))
    })
  })
}
