/** Sessions as things of their own: prepared, opened by their first run, read, found, put aside, taken away. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Fleet, Json, RunView } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { gate, print, resultAt, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

type Answer = readonly [status: number, body: Json]
type Message = { readonly id: string; readonly role: string; readonly content: string | null; readonly run_id: string }

export function sessionResources(host: Host): void {
  describe('sessions as resources', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let specs: RunSpec[]
    beforeEach(() => {
      fleet = current()
      specs = []
    })

    const turn: Turn = print(({ spec }) => {
      specs.push(spec)
      return [JSON.stringify({ type: 'system' }), JSON.stringify({ type: 'result', result: `to ${spec.prompt}` })]
    })
    const send = async (method: string, path: string, body?: object, by: Fleet = fleet): Promise<Answer> => {
      const response = await by.call(path, { method, ...(body ? { body: JSON.stringify(body) } : {}) })
      const text = await response.text()
      return [response.status, (text === '' ? {} : JSON.parse(text)) as Json]
    }
    const prepare = async (body: object = {}): Promise<string> => {
      const [status, session] = await send('POST', '/v1/sessions', body)
      expect([status, session]).toMatchObject([201, { status: 'active', runner_id: null, runs: 0, messages: 0, last_run_at: null }])
      return String(session['id'])
    }
    const ask = async (body: object): Promise<RunView> => {
      const response = await fleet.run(body)
      const run = (await response.json()) as RunView
      expect([response.status, run]).toMatchObject([200, { status: 'succeeded' }])
      return run
    }
    const said = async (id: string, query = ''): Promise<{ data: Message[]; has_more: boolean; next: string | null }> => {
      const [status, page] = await send('GET', `/v1/sessions/${id}/messages${query}`)
      expect([query, status]).toEqual([query, 200])
      return page as never
    }
    const found = async (q: string, query = ''): Promise<string[]> => {
      const [status, page] = await send('GET', `/v1/sessions/search?q=${encodeURIComponent(q)}${query}`)
      expect([q, status]).toEqual([q, 200])
      return (page['data'] as { id: string }[]).map(({ id }) => id)
    }

    it('are prepared, opened under their id and in their directory, and resumed', async () => {
      const runner = await fleet.runner({ turn })
      const id = await prepare({ title: 'Plans', cwd: '/work/plans', model: 'sonnet', metadata: { team: 'a', n: 1, yes: true } })
      const first = await ask({ prompt: 'one', session_id: id })
      expect(first).toMatchObject({ session_id: id, model: 'sonnet' })
      await ask({ prompt: 'two', session_id: id })
      expect(specs).toMatchObject([
        { session: { mode: 'new', id }, cwd: '/work/plans', model: 'sonnet' },
        { session: { mode: 'resume', id }, cwd: '/work/plans', model: 'sonnet' },
      ])
      expect(await send('GET', `/v1/sessions/${id}`)).toMatchObject([
        200,
        { id, title: 'Plans', cwd: '/work/plans', runner_id: runner.id, runs: 2, active_runs: 0, messages: 4, cost_usd: 1, metadata: { team: 'a', n: 1, yes: true } },
      ])
      expect(await send('GET', `/v1/sessions/${id}/stats`)).toMatchObject([
        200,
        { session_id: id, runs: 2, succeeded: 2, failed: 0, num_turns: 2, cost_usd: 1, usage: { input_tokens: 2, output_tokens: 2 } },
      ])
    })

    it('are there after a run that named none, in the directory that it worked in', async () => {
      await fleet.runner({ turn })
      const { session_id } = await ask({ prompt: 'one', cwd: '/work/other' })
      expect(await send('GET', `/v1/sessions/${session_id}`)).toMatchObject([200, { id: session_id, cwd: '/work/other', title: null, runs: 1 }])
    })

    it('are opened once, however many runs want to be the first', async () => {
      await fleet.runner({ turn })
      const id = await prepare()
      const answers = await Promise.all(Array.from({ length: 6 }, (_, i) => fleet.run({ prompt: `p${i}`, session_id: id })))
      const statuses = answers.map(({ status }) => status)
      expect(statuses.every((status) => status === 200 || status === 409), statuses.join()).toBe(true)
      expect(statuses).toContain(200)
      expect(specs.filter(({ session }) => session.mode === 'new')).toHaveLength(1)
      expect(specs.every(({ session }) => session.id === id)).toBe(true)
      await ask({ prompt: 'after', session_id: id })
      expect(specs.at(-1)).toMatchObject({ session: { mode: 'resume', id } })
    })

    it('say what was said in them, from either end', async () => {
      await fleet.runner({ turn })
      const id = await prepare()
      const runs: string[] = []
      for (let n = 1; n <= 5; n++) runs.push((await ask({ prompt: `p${n}`, session_id: id })).id)
      const all = (await said(id, '?order=asc')).data
      expect(all.map(({ role, content, run_id }) => [role, content, run_id])).toEqual(
        runs.flatMap((run, i) => [
          ['user', `p${i + 1}`, run],
          ['assistant', `to p${i + 1}`, run],
        ]),
      )
      const ids = all.map((message) => message.id)
      expect((await said(id)).data.map((message) => message.id)).toEqual(ids.toReversed())
      for (const [order, cursor] of [
        ['asc', 'after'],
        ['desc', 'before'],
      ] as const) {
        for (const limit of [1, 3, 4, 10]) {
          const seen: string[] = []
          for (let next: string | null | undefined; next !== null;) {
            const page = await said(id, `?order=${order}&limit=${limit}${next === undefined ? '' : `&${cursor}=${next}`}`)
            expect(page.has_more).toBe(page.next !== null)
            seen.push(...page.data.map((message) => message.id))
            next = page.next
          }
          expect(seen, `${order} by ${limit}`).toEqual(order === 'asc' ? ids : ids.toReversed())
        }
      }
      expect((await said(id, `?order=asc&after=${ids[2]}&before=${ids[6]}`)).data.map((message) => message.id)).toEqual(ids.slice(3, 6))
      expect(await send('GET', `/v1/sessions/${id}/messages?after=msg_${'0'.repeat(32)}_u`)).toMatchObject([400, { field: 'after' }])
    })

    it('show a question at once and its answer when there is one, or why there is none', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const id = await prepare()
      const long = await fleet.start({ prompt: 'long', session_id: id })
      await cli.running('long')
      const later = await fleet.start({ prompt: 'later', session_id: id })
      expect(await said(id)).toMatchObject({ data: [{ role: 'user', content: 'long', status: 'running' }], has_more: false, next: null })
      expect(await send('GET', `/v1/sessions/${id}`)).toMatchObject([200, { runs: 2, active_runs: 2, messages: 1 }])
      for (const run of [later, long]) {
        await fleet.call(`/v1/runs/${run.id}/cancel`, { method: 'POST' })
        await fleet.until(run.id, 'cancelled')
      }
      const [answer] = await until('its end to be said', async () => {
        const { data } = await said(id)
        return data.length === 2 ? data : undefined
      })
      expect(answer).toMatchObject({ role: 'assistant', content: null, status: 'cancelled', error: { code: 'cancelled' } })
    })

    it('are listed, renamed, put aside and taken up again', async () => {
      await fleet.runner({ turn })
      const [a, b] = [await prepare({ title: 'a' }), await prepare({ title: 'b' })]
      await ask({ prompt: 'one', session_id: a })
      const list = async (query: string) => ((await send('GET', `/v1/sessions${query}`))[1]['data'] as { id: string }[]).map(({ id }) => id)
      expect(await list('')).toEqual([a, b])
      expect(await list('?order=asc')).toEqual([b, a])
      const [, { next }] = await send('GET', '/v1/sessions?limit=1')
      expect(await list(`?limit=1&before=${String(next)}`)).toEqual([b])
      const change = { title: 'A', status: 'archived', metadata: { k: 'v' }, model: 'opus' }
      expect(await send('PATCH', `/v1/sessions/${a}`, change)).toMatchObject([200, { id: a, ...change, runs: 1 }])
      expect(await list('?status=archived')).toEqual([a])
      const refused = await fleet.run({ prompt: 'x', session_id: a })
      expect([refused.status, await refused.json()]).toMatchObject([409, { code: 'session_inactive' }])
      expect(await send('PATCH', `/v1/sessions/${a}`, { status: 'active', title: null, metadata: null, model: null })).toMatchObject([
        200,
        { status: 'active', title: null, metadata: null, model: null },
      ])
      await ask({ prompt: 'two', session_id: a })
    })

    it('are listed a hundred at a time', async () => {
      for (let i = 0; i < 103; i++) await prepare()
      const [status, page] = await send('GET', '/v1/sessions?limit=100')
      expect([status, (page['data'] as unknown[]).length]).toEqual([200, 100])
      const [, rest] = await send('GET', `/v1/sessions?limit=100&before=${String(page['next'])}`)
      expect(rest).toMatchObject({ next: null })
      const ids = [...(page['data'] as Json[]), ...(rest['data'] as Json[])].map(({ id }) => id)
      expect(new Set(ids).size).toBe(103)
      expect((await send('GET', '/v1/sessions/search?q=nothing'))[1]).toEqual({ data: [], next: null })
    })

    it('are found by what they hold, taken word for word', async () => {
      await fleet.runner({ turn })
      const percent = await prepare({ title: '100% done_now', metadata: { owner: 'Zoë' } })
      const plain = await prepare({ title: '1000 done-now', cwd: String.raw`/work/back\slash` })
      await ask({ prompt: 'say "quoted" é\nsecond line', session_id: plain })
      expect(await found('0% done')).toEqual([percent])
      expect(await found('done_now')).toEqual([percent])
      expect(await found('%')).toEqual([percent])
      expect(await found('DONE')).toEqual([plain, percent])
      expect(await found(String.raw`back\sl`)).toEqual([plain])
      expect(await found('Zoë')).toEqual([percent])
      expect(await found('owner')).toEqual([])
      expect(await found('"quoted" é\nsecond')).toEqual([plain])
      expect(await found(percent.slice(0, 13))).toEqual([percent])
      expect(await found(percent.slice(1, 13))).toEqual([])
      for (const hostile of ["' OR 1=1 --", '\\', '\\%', '_%_', '")', "%' ESCAPE '", '$.x', '[]']) expect(await found(hostile), hostile).toEqual(hostile === '\\' ? [plain] : [])
      expect(await found('done', '&limit=1')).toEqual([plain])
      expect((await send('GET', '/v1/sessions/search?q=%00'))[0]).toBe(400)
      expect((await send('GET', `/v1/sessions/search?q=${'x'.repeat(201)}`))[0]).toBe(400)
    })

    it('are gone when they are deleted, with what was said, and not before their turn has ended', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const id = await prepare({ title: 'secret' })
      const run = await fleet.start({ prompt: 'hidden', session_id: id, metadata: { note: 'hidden' } })
      await cli.running('hidden')
      expect(await send('DELETE', `/v1/sessions/${id}`)).toMatchObject([409, { code: 'session_busy' }])
      await cli.finish('hidden')
      await fleet.until(run.id, 'succeeded')
      // The index of runs may lag behind the end of one.
      await until('it to be deleted', async () => (await send('DELETE', `/v1/sessions/${id}`))[0] === 204)
      for (const path of ['', '/messages', '/stats']) expect(await send('GET', `/v1/sessions/${id}${path}`)).toMatchObject([404, { code: 'session_not_found' }])
      expect(await send('DELETE', `/v1/sessions/${id}`)).toMatchObject([404, { code: 'session_not_found' }])
      expect(await found('hidden')).toEqual([])
      expect(await send('GET', `/v1/runs/${run.id}`)).toMatchObject([200, { status: 'succeeded', cost_usd: 0.5, metadata: null, result: null }])
      expect(await send('GET', `/v1/runs/${run.id}/events`)).toMatchObject([410, { code: 'pruned' }])
      const again = await fleet.run({ prompt: 'x', session_id: id })
      expect([again.status, await again.json()]).toMatchObject([404, { code: 'session_not_found' }])
    })

    it('are gone with their turns when that is asked for', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const id = await prepare()
      const long = await fleet.start({ prompt: 'long', session_id: id })
      await cli.running('long')
      const later = await fleet.start({ prompt: 'later', session_id: id })
      expect((await send('DELETE', `/v1/sessions/${id}?running=cancel`))[0]).toBe(204)
      for (const run of [long, later]) expect(await fleet.get(run.id)).toMatchObject({ status: 'cancelled' })
      expect((await send('GET', `/v1/sessions/${id}`))[0]).toBe(404)
      expect(cli.order).toEqual(['long'])
    })

    it('are not there for somebody else, nor under an id that cannot be one', async () => {
      await fleet.runner({ turn })
      const id = await prepare({ title: 'ours' })
      await ask({ prompt: 'ours too', session_id: id })
      const theirs = await fleet.as(`${fleet.tenant}-other`)
      for (const [by, name] of [
        [theirs, id],
        [fleet, crypto.randomUUID()],
        [fleet, 'search%20'],
        [fleet, "x' OR '1"],
      ] as const) {
        for (const [method, path, body] of [
          ['GET', ''],
          ['GET', '/messages'],
          ['GET', '/stats'],
          ['PATCH', '', { title: 'theirs' }],
          ['DELETE', ''],
        ] as const)
          expect(await send(method, `/v1/sessions/${encodeURIComponent(name)}${path}`, body, by)).toMatchObject([404, { code: 'session_not_found' }])
      }
      expect((await send('GET', '/v1/sessions', undefined, theirs))[1]).toEqual({ data: [], next: null })
      expect((await send('GET', '/v1/sessions/search?q=ours', undefined, theirs))[1]).toEqual({ data: [], next: null })
      expect(await send('GET', `/v1/sessions/${id}`)).toMatchObject([200, { title: 'ours', messages: 2 }])
    })

    it('take no name that could not be read back', async () => {
      for (const body of [{ title: '\ud800' }, { title: 'a\0b' }, { cwd: '\udfff' }, { title: 'x'.repeat(257) }, { metadata: { a: {} } }, { colour: 'red' }])
        expect((await send('POST', '/v1/sessions', body))[0], JSON.stringify(body)).toBe(400)
      const id = await prepare({ title: '😀', metadata: { odd: '\ud800\0' } })
      expect(await send('GET', `/v1/sessions/${id}`)).toMatchObject([200, { title: '😀', metadata: { odd: '\ud800\0' } }])
      expect(await found('😀')).toEqual([id])
    })

    it('show an answer that is an object as its text', async () => {
      await fleet.runner({
        turn: (sink) => Promise.resolve({ result: resultAt(sink.line(Buffer.from(JSON.stringify({ type: 'result', structured_output: { a: 1 } })))) }),
      })
      const { session_id } = await ask({ prompt: 'one' })
      expect((await said(session_id)).data[0]).toMatchObject({ role: 'assistant', content: '{"a":1}' })
    })
  })
}
