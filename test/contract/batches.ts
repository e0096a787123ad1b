/** Runs that are asked for together, and the order in which those that wait get a slot. */
import { beforeEach, describe, expect, it } from 'vitest'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { echo, gate, type Gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

type Item = { readonly index: number; readonly run_id: string | null; readonly session_id: string | null; readonly status: string; readonly error?: Json }
type Batch = Json & { readonly id: string; readonly status: string; readonly counts: Record<string, number>; readonly items: Item[] }

export function batches(host: Host): void {
  const post = (fleet: Fleet, body: object, headers: Record<string, string> = {}) =>
    fleet.call('/v1/batches', { method: 'POST', body: JSON.stringify(body), headers })
  const begun = async (fleet: Fleet, body: object, headers?: Record<string, string>) => {
    const response = await post(fleet, body, headers)
    const batch = (await response.json()) as Batch
    expect([response.status, response.headers.get('location')], JSON.stringify(batch)).toEqual([202, `/v1/batches/${batch.id}`])
    return batch
  }
  const get = async (fleet: Fleet, id: string) => (await (await fleet.call(`/v1/batches/${id}`)).json()) as Batch
  const ended = (fleet: Fleet, id: string) =>
    until(`batch ${id} to end`, async () => {
      const batch = await get(fleet, id)
      return batch.status === 'ended' && batch
    })
  const prompts = (count: number) => Array.from({ length: count }, (_, i) => ({ prompt: `item ${i}` }))

  describe('a batch', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })

    it('of a hundred runs ends with every one of them, in its place, and their costs', async () => {
      await fleet.runner({ turn: echo, slots: 10 })
      const { id } = await begun(fleet, { items: prompts(100), metadata: { why: 'test' }, defaults: { metadata: { of: 'batch' } } })
      const batch = await ended(fleet, id)
      expect(batch).toMatchObject({ size: 100, counts: { succeeded: 100, refused: 0, not_submitted: 0 }, cost_usd: 50, metadata: { why: 'test' } })
      expect(batch.items.map(({ index }) => index)).toEqual(prompts(100).map((_, i) => i))
      expect(await fleet.get(batch.items[42]!.run_id!)).toMatchObject({ result: 'item 42', metadata: { of: 'batch' } })
      expect(new Set(batch.items.map((item) => item.session_id)).size).toBe(100)
      const list = (await (await fleet.call('/v1/batches')).json()) as { data: Batch[]; next: null }
      const { items: _, ...summary } = batch
      expect(list).toEqual({ data: [summary], next: null })
    })

    it('answers while its runs wait for a slot', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      const { id, counts } = await begun(fleet, { items: prompts(3) })
      expect(counts['queued']! + counts['running']!).toBe(3)
      expect(await get(fleet, id)).toMatchObject({ status: 'running' })
      for (const { prompt } of prompts(3)) await cli.finish(prompt)
      expect(await ended(fleet, id)).toMatchObject({ counts: { succeeded: 3 } })
      expect(cli.order.toSorted()).toEqual(['item 0', 'item 1', 'item 2'])
    })

    it('keeps to the order of its items within a session', async () => {
      await fleet.runner({ turn: cli.turn, slots: 4 })
      const { id: first, session_id } = await fleet.start({ prompt: 'first' })
      await cli.finish('first')
      await fleet.until(first, 'succeeded')
      const { id } = await begun(fleet, { items: prompts(6), defaults: { session_id } })
      for (const { prompt } of prompts(6)) await cli.finish(prompt)
      expect((await ended(fleet, id)).items.map((item) => item.session_id)).toEqual(Array.from({ length: 6 }, () => session_id))
      expect(cli.order).toEqual(['first', ...prompts(6).map(({ prompt }) => prompt)])
    })

    it('goes on without the items that are refused, and says why they were', async () => {
      await fleet.runner({ turn: echo })
      const nobody = crypto.randomUUID()
      const items = [{ prompt: 'a' }, { prompt: 'b', session_id: nobody }, { prompt: 'c', permission_mode: 'bypassPermissions' }, { prompt: 'd' }]
      const { id } = await begun(fleet, { items })
      const batch = await ended(fleet, id)
      expect(batch).toMatchObject({ counts: { succeeded: 2, refused: 2 } })
      expect(batch.items.map(({ status, error }) => [status, error?.['code']])).toEqual([
        ['succeeded', undefined],
        ['refused', 'session_not_found'],
        ['refused', 'forbidden'],
        ['succeeded', undefined],
      ])
      expect(batch.items[1]).toMatchObject({ run_id: null, error: { message: expect.stringContaining(nobody) as string } })
      expect(await fleet.list()).toHaveLength(2)
    })

    it('holds each item to the limits of its token and tenant', async () => {
      await fleet.runner({ turn: cli.turn, slots: 4 })
      const { adminToken: operator } = await fleet.as('default')
      const ask = (path: string, method: string, body: object) => fleet.call(`/admin/v1/${path}`, { method, token: operator, body: JSON.stringify(body) })
      await ask('tenants', 'POST', { id: fleet.tenant })
      expect((await ask(`limits?tenant=${fleet.tenant}`, 'PUT', { concurrent_runs: 2 })).status).toBe(200)
      const narrowed = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'narrow', limits: { models: ['opus'] } })
      const body = JSON.stringify({ items: [{ prompt: 'item 0' }, { prompt: 'x', model: 'sonnet' }, { prompt: 'item 1' }, { prompt: 'y' }] })
      const response = await fleet.call('/v1/batches', { method: 'POST', body, token: narrowed.token })
      const batch = (await response.json()) as Batch
      expect(batch.items.map(({ error }) => error?.['code'])).toContain('forbidden')
      expect(batch.counts).toMatchObject({ refused: 2 })
      expect(batch.items[1]).toMatchObject({ status: 'refused', error: { code: 'forbidden' } })
      expect(batch.items.filter(({ error }) => error?.['code'] === 'concurrency')).toHaveLength(1)
      await fleet.call(`/v1/batches/${batch.id}/cancel`, { method: 'POST' })
      await ended(fleet, batch.id)
    })

    it('starts nothing when one item is not valid, and names it', async () => {
      await fleet.runner({ turn: echo })
      const bad: [object, string][] = [
        [{ items: [{ prompt: 'a' }, { prompt: 'b' }, { prompt: 'c' }, { prompt: ' ' }] }, 'items.3.prompt'],
        [{ items: [{ prompt: 'a' }, { prompt: 'b', priority: 11 }] }, 'items.1.priority'],
        [{ items: [{ prompt: 'a' }, { prompt: 'b', nonsense: 1 }] }, 'items.1.nonsense'],
        [{ items: [{ prompt: 'a', fork_session: true }] }, 'items.0.fork_session'],
        [{ items: [{ prompt: 'a', cwd: '/a', workspace: 'b' }] }, 'items.0.workspace'],
        [{ items: [{ prompt: 'a' }], defaults: { priority: 0 } }, 'defaults.priority'],
        [{ items: [] }, 'items'],
        [{ items: prompts(101) }, 'items'],
      ]
      for (const [body, field] of bad) {
        const response = await post(fleet, body)
        expect([response.status, await response.json()], field).toMatchObject([400, { code: 'invalid_request', field }])
      }
      expect(await fleet.list()).toEqual([])
      expect(await (await fleet.call('/v1/batches')).json()).toEqual({ data: [], next: null })
    })

    it('takes what an item says for what it is, and a default for the rest', async () => {
      const offers: string[] = []
      await fleet.runner({ turn: (sink, offer) => (offers.push(offer.spec.cwd ?? offer.spec.workspace ?? 'nowhere'), echo(sink, offer, Promise.resolve(''))) })
      const { id } = await begun(fleet, { items: [{ prompt: 'a' }, { prompt: 'b', workspace: 'shared' }, { prompt: 'c', cwd: '/own' }], defaults: { cwd: '/usual' } })
      await ended(fleet, id)
      expect(offers.toSorted()).toEqual(['/own', '/usual', 'shared'])
    })

    it('is one batch for the same key and body, also while it is being submitted', async () => {
      await fleet.runner({ turn: echo, slots: 4 })
      const key = { 'idempotency-key': 'again' }
      const all = await Promise.all(Array.from({ length: 5 }, () => begun(fleet, { items: prompts(20) }, key)))
      expect(new Set(all.map(({ id }) => id)).size).toBe(1)
      const batch = await ended(fleet, all[0]!.id)
      expect(batch.counts).toMatchObject({ succeeded: 20, refused: 0 })
      expect(await fleet.list('?limit=100')).toHaveLength(20)
      expect(await begun(fleet, { items: prompts(20) }, key)).toEqual(batch)
      const other = await post(fleet, { items: prompts(19) }, key)
      expect([other.status, await other.json()]).toMatchObject([422, { code: 'idempotency' }])
      expect((await fleet.run({ prompt: 'x' }, key)).status).toBe(422)
    })

    it('is completed by the same request when the first one was cut off in its middle', async () => {
      await fleet.runner({ turn: echo, slots: 4 })
      const key = { 'idempotency-key': 'cut' }
      const cut = post(fleet, { items: prompts(60) }, key).catch(() => undefined)
      await until('some of it', async () => (await fleet.list()).length > 3)
      await fleet.restart()
      expect([undefined, 202, 503]).toContain((await cut)?.status)
      await fleet.allRunners('online')
      const list = (await (await fleet.call('/v1/batches')).json()) as { data: Batch[] }
      expect(list.data.map(({ counts }) => Object.values(counts).reduce((sum, count) => sum + count, 0))).toEqual([60])
      const again = await begun(fleet, { items: prompts(60) }, key)
      expect(again.id).toBe(list.data[0]!.id)
      const batch = await ended(fleet, again.id)
      expect(batch.counts).toMatchObject({ succeeded: 60, refused: 0, not_submitted: 0 })
      const results = await Promise.all(batch.items.map(async (item) => (await fleet.get(item.run_id!))['result']))
      expect(results).toEqual(prompts(60).map(({ prompt }) => prompt))
      expect(await fleet.list('?limit=100')).toHaveLength(60)
    })

    it('is cancelled as a whole', async () => {
      await fleet.runner({ turn: cli.turn, slots: 2 })
      const { id } = await begun(fleet, { items: prompts(5) })
      await until('two of them to run', () => cli.order.length === 2)
      const cancel = async () => (await fleet.call(`/v1/batches/${id}/cancel`, { method: 'POST' })).status
      expect(await cancel()).toBe(202)
      expect(await ended(fleet, id)).toMatchObject({ counts: { cancelled: 5 } })
      expect(await cancel()).toBe(200)
      expect(cli.order).toHaveLength(2)
    })

    it('is not there for anybody else', async () => {
      const { id } = await begun(fleet, { items: [{ prompt: 'x', session_id: crypto.randomUUID() }] })
      const other = await fleet.as('somebody-else')
      for (const [path, method] of [['', 'GET'], ['/cancel', 'POST']] as const) {
        for (const one of [id, `bat_${'0'.repeat(32)}`, 'x', "bat_' OR 1=1"]) {
          const response = await other.call(`/v1/batches/${encodeURIComponent(one)}${path}`, { method })
          expect([response.status, await response.json()]).toMatchObject([404, { code: 'not_found' }])
        }
      }
      await other.close()
    })

    it('is shown in a list, newest first, a page at a time', async () => {
      const made: string[] = []
      for (let n = 0; n < 3; n++) made.unshift((await begun(fleet, { items: [{ prompt: 'x', session_id: crypto.randomUUID() }] })).id)
      const page = async (query: string) => (await (await fleet.call(`/v1/batches${query}`)).json()) as { data: Batch[]; next: string | null }
      const first = await page('?limit=2')
      expect([first.data.map(({ id }) => id), first.next]).toEqual([made.slice(0, 2), made[1]])
      expect(await page(`?limit=2&before=${first.next!}`)).toMatchObject({ data: [{ id: made[2] }], next: null })
    })
  })

  describe('a run that waits', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })
    const patch = (id: string, body: object, as = fleet) => as.call(`/v1/runs/${id}`, { method: 'PATCH', body: JSON.stringify(body) })

    it('is next when it is the last of ten and gets a higher priority', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'busy' })
      await cli.running('busy')
      const { items } = await begun(fleet, { items: prompts(10) })
      // Neighbours in a batch may change places on their way into the line.
      const waiting = await Promise.all(items.map(async ({ run_id, index }) => ({ id: run_id!, prompt: `item ${index}`, at: (await fleet.get(run_id!)).queue_position! })))
      const [first, ...others] = waiting.toSorted((a, b) => a.at - b.at)
      const last = others.pop()!
      expect([first!.at, last.at]).toEqual([1, 10])
      const response = await patch(last.id, { priority: 8 })
      expect([response.status, await response.json()]).toMatchObject([200, { id: last.id, status: 'queued', queue_position: 1 }])
      expect((await patch(first!.id, { priority: 1 })).status).toBe(200)
      const order = ['busy', last.prompt, ...others.map(({ prompt }) => prompt), first!.prompt]
      for (const prompt of order) await cli.finish(prompt)
      await fleet.until(first!.id, 'succeeded')
      expect(cli.order).toEqual(order)
    })

    it('keeps its priority when the host is restarted', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await fleet.start({ prompt: 'busy' })
      await cli.running('busy')
      const a = await fleet.start({ prompt: 'a' })
      const b = await fleet.start({ prompt: 'b' })
      expect((await patch(b.id, { priority: 10 })).status).toBe(200)
      await fleet.restart()
      await fleet.allRunners('online')
      await cli.finish('busy')
      for (const prompt of ['b', 'a']) await cli.finish(prompt)
      await fleet.until(a.id, 'succeeded')
      expect(cli.order).toEqual(['busy', 'b', 'a'])
    })

    it('has no other place when it waits no more, and nobody else can give it one', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      const { id } = await fleet.start({ prompt: 'x' })
      await cli.running('x')
      await fleet.until(id, 'running')
      const running = await patch(id, { priority: 9 })
      expect([running.status, await running.json()]).toMatchObject([409, { code: 'conflict', run_status: 'running', detail: `run ${id} is running and waits no more` }])
      await cli.finish('x')
      await fleet.until(id, 'succeeded')
      const over = await patch(id, { priority: 9 })
      expect([over.status, await over.json()]).toMatchObject([409, { run_status: 'succeeded' }])
      for (const body of [{}, { priority: 0 }, { priority: 11 }, { priority: 1.5 }, { priority: '5' }, { priority: 5, more: 1 }]) {
        expect((await patch(id, body)).status).toBe(400)
      }
      const other = await fleet.as('somebody-else')
      for (const one of [id, `run_${'0'.repeat(32)}`, 'x']) expect((await patch(one, { priority: 9 }, other)).status).toBe(404)
      await other.close()
    })
  })
}
