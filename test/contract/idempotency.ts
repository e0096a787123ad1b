/** The same request more than once. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { Fleet, RunView } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { readSse, SSE } from '../kit/sse.ts'
import { gate, type Gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

export function idempotency(host: Host): void {
  describe('the same request more than once', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(async () => {
      fleet = current()
      cli = gate()
      await fleet.runner({ turn: cli.turn, slots: 8 })
    })

    it('makes one run of a hundred equal posts, and gives each its stream', async () => {
      const key = { 'idempotency-key': 'k1' }
      const posts = Array.from({ length: 100 }, () => fleet.run({ prompt: 'once' }, { ...SSE, ...key }))
      await cli.finish('once')
      const responses = await Promise.all(posts)
      expect(new Set(responses.map((r) => r.status))).toEqual(new Set([200]))
      expect(new Set(responses.map((r) => r.headers.get('x-run-id'))).size).toBe(1)
      const streams = await Promise.all(responses.map((r) => readSse(r)))
      for (const { events } of streams) expect(events.map((e) => e.event)).toEqual(['started', 'message', 'done'])
      expect(cli.order).toEqual(['once'])
      const late = await fleet.run({ prompt: 'once' }, key)
      expect(await late.json()).toMatchObject({ id: responses[0]!.headers.get('x-run-id'), status: 'succeeded' })
    })

    it('takes white space and the order of keys for the same body, and another body for a mistake', async () => {
      const headers = { prefer: 'respond-async', 'idempotency-key': 'k2' }
      const send = (body: string) => fleet.call('/v1/runs', { method: 'POST', body, headers })
      const first = (await (await send('{"prompt":"p","metadata":{"a":"1","b":"2"}}')).json()) as RunView
      const again = (await (await send('{ "metadata": {"b":"2", "a":"1"}, "prompt": "p" }')).json()) as RunView
      expect(again.id).toBe(first.id)
      const other = await send('{"prompt":"q"}')
      expect([other.status, await other.json()]).toMatchObject([422, { code: 'idempotency' }])
      await cli.finish('p')
    })

    it('frees the key of a refused run, and refuses a key that is none', async () => {
      const key = { 'idempotency-key': 'k3' }
      expect((await fleet.run({ prompt: 'x', pool: 'none', queue_timeout_s: 0 }, key)).status).toBe(503)
      const response = fleet.run({ prompt: 'y' }, { ...SSE, ...key })
      await cli.finish('y')
      expect((await response).status).toBe(200)
      expect((await fleet.run({ prompt: 'z' }, { 'idempotency-key': 'bad key' })).status).toBe(400)
    })

    it('keeps the keys of tenants apart', async () => {
      const key = { 'idempotency-key': 'shared' }
      const theirs = await fleet.as('somebody-else')
      await theirs.runner({ turn: cli.turn })
      const [mine, other] = [await fleet.start({ prompt: 'mine' }, key), await theirs.start({ prompt: 'theirs' }, key)]
      expect(other.id).not.toBe(mine.id)
      for (const prompt of ['mine', 'theirs']) await cli.finish(prompt)
      await theirs.until(other.id, 'succeeded')
    })

    it('finds a run that still waits for its slot', async () => {
      await fleet.runner({ pool: 'small', turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'first', pool: 'small' })
      await cli.running('first')
      const key = { 'idempotency-key': 'k4' }
      const waiting = [1, 2].map(() => fleet.run({ prompt: 'second', pool: 'small' }, { ...SSE, ...key }))
      const [queued] = await until('it to wait', async () => {
        const runs = await fleet.list('?status=queued')
        return runs.length > 0 && runs
      })
      const taken = await fleet.start({ prompt: 'second', pool: 'small' }, key)
      expect(taken).toMatchObject({ id: queued!.id, status: 'queued' })
      await cli.finish('first')
      await cli.finish('second')
      for (const response of await Promise.all(waiting)) {
        expect((await readSse(response)).events.map((e) => e.event)).toEqual(['started', 'message', 'done'])
      }
      expect(cli.order).toEqual(['first', 'second'])
    })
  })
}
