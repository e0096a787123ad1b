/** Messages of ccs: who may ask, how it says no, what they cost, and what is seen of them afterwards. */
import { beforeEach, describe, expect, it } from 'vitest'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { rawHttp, readAnswer } from '../kit/raw-http.ts'
import { echo, gate, print, resultAt, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { asked, no, NOWHERE } from './compat-ccs-kit.ts'
import { tenantEach } from './tenants.ts'

const MAX_BODY = 10 * 1024 * 1024
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function ccsMessages(host: Host): void {
  describe('clients of ccs', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => void (fleet = current()))
    const post = (path: string, body: unknown) => asked(fleet, 'POST', path, body)

    describe('are let in', () => {
      it('by the key that they have, once an admin has registered it', async () => {
        const secret = 'ccs_ak_dGhpcyBpcyBhIGtleSBvZiBjY3M'
        const key = { headers: { authorization: `Bearer ${secret}` } }
        expect(await asked(fleet, 'GET', '/api/statistics/summary', undefined, key)).toEqual([401, { ...no('Invalid API Key'), hint: expect.any(String) }])
        await admins(fleet, 'credentials', { kind: 'key', secret, subject: 'old', scopes: ['stats:read'] })
        const [status] = await until('the key to be known', async () => {
          const answer = await asked(fleet, 'GET', '/api/statistics/summary', undefined, key)
          return answer[0] === 200 && answer
        })
        expect(status).toBe(200)
        expect(await asked(fleet, 'POST', '/api/messages', { prompt: 'x' }, key)).toMatchObject([403, no(expect.stringContaining('runs:write'))])
      })

      it.each<[string, string | undefined, string]>([
        ['nothing', undefined, 'Missing Authorization header'],
        ['something else than Bearer', 'Digest x', 'Invalid Authorization format'],
        ['an empty Bearer', 'Bearer ', 'Invalid Authorization format'],
        ['a key of another kind', 'Bearer sk-0123456789', 'Invalid API Key format'],
        ['a wrong key', 'Bearer ccs_ak_0123456789', 'Invalid API Key'],
      ])('not with %s', async (_what, authorization, error) => {
        const response = await fleet.call('/api/config', { token: null, headers: authorization === undefined ? {} : { authorization } })
        expect([response.status, response.headers.get('www-authenticate'), await response.json()]).toEqual([401, 'Bearer', { ...no(error), hint: expect.any(String) }])
      })
    })

    describe('hear no', () => {
      it.each<[unknown, string]>([
        [{}, '"prompt" is required'],
        [{ prompt: '' }, '"prompt" is not allowed to be empty'],
        [{ prompt: 'x', foo: 1 }, '"foo" is not allowed'],
        [{ prompt: 'x', priority: 11 }, '"priority" must be less than or equal to 10'],
        [{ prompt: 'x', allowed_tools: 'Read' }, '"allowed_tools" must be an array'],
        [{ prompt: 'x', webhook_url: 'nowhere' }, '"webhook_url" must be a valid uri'],
        [{ prompt: 'x', webhook_url: 'http://127.0.0.1:9/' }, '"webhook_url" is not an address of the public internet'],
        [{ prompt: 'x', mcp_config: '/etc/passwd' }, '"mcp_config" must be JSON text or the name of a server of the machine; a path is not read'],
        [{ prompt: 'x', project_path: '~/work' }, '"project_path" must be a path as the machine that runs it knows it: ~ is not expanded'],
      ])('to %j as Joi says it', async (body, error) => {
        for (const path of ['/api/messages', '/api/async/messages']) expect(await post(path, body)).toEqual([400, no(error)])
      })

      it('in their words from what all dialects share', async () => {
        expect(await asked(fleet, 'GET', '/api/nothing')).toEqual([404, no('no route GET /api/nothing')])
        const form = await fleet.call('/api/messages', { method: 'POST', body: 'prompt=x', headers: { 'content-type': 'text/plain' } })
        expect([form.status, await form.json()]).toMatchObject([415, no(expect.stringContaining('JSON'))])
        const broken = await fleet.call('/api/messages', { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } })
        expect([broken.status, await broken.json()]).toEqual([400, no('the body is not valid JSON')])
        // Only the header: whoever has said how much it is need not send it to hear no.
        const head = ['POST /api/messages HTTP/1.1', `host: ${new URL(fleet.url).host}`, `authorization: Bearer ${fleet.token}`, 'content-type: application/json']
        const sized = async (bytes: number) => readAnswer(await rawHttp(fleet.url, [...head, `content-length: ${bytes}`], '{'.padEnd(bytes > MAX_BODY ? 1 : bytes)))
        expect(await sized(MAX_BODY + 1)).toEqual({ status: 413, body: no('the body is larger than 10485760 bytes') })
        expect(await sized(2 * 1024 * 1024)).toEqual({ status: 400, body: no('the body is not valid JSON') })
      })

      it('to too many requests, with when to come back', async () => {
        const limits = { rates: { read: { rate: 0.01, burst: 1 } } }
        const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'limited', limits })
        expect((await fleet.call('/api/config', { token })).status).toBe(200)
        const refused = await fleet.call('/api/config', { token })
        expect(refused.status).toBe(429)
        expect(await refused.json()).toEqual({ ...no('Too many requests, please try again later.'), retryAfter: expect.any(Number) })
        const names = ['retry-after', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset', 'ratelimit-policy']
        expect(names.filter((name) => !refused.headers.has(name))).toEqual([])
      })

      it('to bypass without the scope, by name', async () => {
        await fleet.runner({ turn: echo })
        expect(await post('/api/messages', { prompt: 'x', permission_mode: 'bypassPermissions' })).toMatchObject([403, no(expect.stringContaining('runs:bypass'))])
      })

      it('to streams and unknown sessions', async () => {
        expect(await post('/api/messages', { prompt: 'x', stream: true })).toEqual([501, no('Streaming is not yet implemented')])
        for (const session_id of [NOWHERE, 'x']) expect(await post('/api/messages', { prompt: 'x', session_id })).toEqual([404, no('Session not found')])
      })
    })

    describe('ask', () => {
      it('and are answered, in a session that is made for them and goes on', async () => {
        const specs: Json[] = []
        const turn = print(({ spec }) => {
          specs.push(spec)
          return [JSON.stringify({ type: 'result', result: `re: ${spec.prompt}`, usage: { input_tokens: 3, server_tool_use: {} } })]
        })
        await fleet.runner({ turn })
        const body = { prompt: 'one', project_path: '/work/p', model: 'm', system_prompt: 'S', agent: '', mcp_config: '{"mcpServers":{}}', allowed_tools: ['Read', 'Bash(git log:*)'], max_budget_usd: 2, permission_mode: 'plan' }
        const [status, first] = await post('/api/messages', body)
        expect([status, first]).toEqual([
          200,
          { success: true, result: 're: one', duration_ms: expect.any(Number), cost_usd: 0.5, session_id: expect.stringMatching(UUID), usage: { input_tokens: 3, server_tool_use: {} } },
        ])
        const { session_id } = first
        expect(specs[0]).toMatchObject({ cwd: '/work/p', model: 'm', system_prompt: 'S', mcp_config: { mcpServers: {} }, allowed_tools: ['Read', 'Bash(git log:*)'], max_budget_usd: 2, permission_mode: 'plan', timeout_s: 300 })
        expect(specs[0]).not.toHaveProperty('agent')
        expect(await post('/api/messages', { prompt: 'two', session_id, project_path: './p', mcp_config: 'files' })).toMatchObject([200, { result: 're: two', session_id }])
        expect(specs[1]).toMatchObject({ session: { mode: 'resume', id: session_id }, cwd: '/work/p', mcp_servers: ['files'] })
        const [, { session }] = await asked(fleet, 'GET', `/api/sessions/${String(session_id)}`)
        expect(session).toMatchObject({ project_path: '/work/p', total_cost_usd: 1, messages_count: 4, metadata: { auto_created: true } })
      })

      it('and hear of a CLI that failed, with what it has cost', async () => {
        const crash: Turn = () => Promise.resolve({ code: 3 })
        const error: Turn = (sink) => {
          const seq = sink.line(Buffer.from('{"type":"result","is_error":true}'))
          return Promise.resolve({ result: { ...resultAt(seq), is_error: true, error: { code: 'overloaded', message: 'Overloaded' } } })
        }
        await fleet.runner({ turn: (sink, offer, stopped) => (offer.spec.prompt === 'crash' ? crash : error)(sink, offer, stopped) })
        const numbers = { duration_ms: expect.any(Number), session_id: expect.stringMatching(UUID) }
        expect(await post('/api/messages', { prompt: 'crash' })).toEqual([500, { ...no('the CLI ended without a result'), ...numbers, cost_usd: expect.any(Number), details: 'crashed' }])
        expect(await post('/api/messages', { prompt: 'x' })).toEqual([500, { ...no('Overloaded'), ...numbers, cost_usd: 0.5, details: 'overloaded' }])
      })

      it('for no more than the budget of their session, which counts what went over it', async () => {
        const prompts: string[] = []
        await fleet.runner({ turn: print(({ spec }) => (prompts.push(spec.prompt), [JSON.stringify({ type: 'result', result: 'worth it' })])) })
        const [status, over] = await post('/api/messages', { prompt: 'a', max_budget_usd: 0.4 })
        const budget = { budget_exceeded: true, max_budget_usd: 0.4, current_cost_usd: 0.5, request_cost_usd: 0.5 }
        expect([status, over]).toMatchObject([500, { ...no(expect.stringContaining('Budget exceeded')), ...budget, result: 'worth it' }])
        const { session_id } = over
        expect(await post('/api/messages', { prompt: 'b', session_id, max_budget_usd: 0.5 })).toEqual([
          500,
          { ...no(expect.stringContaining('Budget exceeded')), budget_exceeded: true, current_cost_usd: 0.5, max_budget_usd: 0.5 },
        ])
        expect(await post('/api/messages', { prompt: 'c', session_id, max_budget_usd: 1 })).toMatchObject([200, { cost_usd: 0.5 }])
        expect(prompts).toEqual(['a', 'c'])
        const [, { statistics }] = await asked(fleet, 'GET', '/api/statistics/summary')
        expect(statistics).toMatchObject({ requests: { total: 2, successful: 2, failed: 0 }, costs: { total_usd: 1 }, tokens: { total_input: 2, total_output: 2 } })
      })

      it('for no more than that, however many of them run or wait at once', async () => {
        const told: unknown[] = []
        const turn: Turn = (sink, { spec }) => {
          told.push(spec.max_budget_usd)
          const seq = sink.line(Buffer.from(JSON.stringify({ type: 'result', result: spec.prompt })))
          return Promise.resolve({ result: { ...resultAt(seq), cost_usd: 0.2 } })
        }
        const cli = gate()
        await fleet.runner({ turn: (...args) => (args[1].spec.prompt === 'held' ? (told.push(args[1].spec.max_budget_usd), cli.turn(...args)) : turn(...args)), slots: 4 })
        const [, { session_id }] = await post('/api/messages', { prompt: 'before anybody said anything' })
        const body = { session_id, max_budget_usd: 0.9 }
        const held = post('/api/messages', { ...body, prompt: 'held' })
        await cli.running('held')
        const others = ['/api/messages', '/api/messages', '/api/async/messages', '/api/async/messages', `/api/sessions/${String(session_id)}/continue/stream`]
        const refused = await Promise.all(others.map((path) => post(path, path.endsWith('stream') ? { prompt: 'x', max_budget_usd: 0.9 } : { ...body, prompt: 'x' })))
        const error = expect.stringMatching(/^Budget exceeded: .* 0\.9 USD: 0\.2 spent, 0\.7 reserved/) as string
        for (const answer of refused) expect(answer).toEqual([500, { ...no(error), budget_exceeded: true, current_cost_usd: 0.2, max_budget_usd: 0.9 }])
        await cli.finish('held')
        expect(await held).toMatchObject([200, { success: true, cost_usd: 0.5 }])
        const tasks = await Promise.all([1, 2, 3, 4, 5].map(() => post('/api/async/messages', { ...body, prompt: 'task' })))
        expect(tasks.map(([status]) => status).toSorted((a, b) => a - b)).toEqual([202, 500, 500, 500, 500])
        const spent = async () => ((await asked(fleet, 'GET', `/api/sessions/${String(session_id)}/stats`))[1]['stats'] as Json)['total_cost_usd'] as number
        await until('the task to be paid for', async () => (await spent()) > 0.8)
        expect(await spent()).toBeCloseTo(0.9)
        expect(told).toEqual([undefined, 0.7, 0.2])
      })

      it('for nothing where that is their budget', async () => {
        await fleet.runner({ turn: echo })
        const answer = [500, { ...no(expect.stringMatching(/^Budget exceeded: /)), budget_exceeded: true, current_cost_usd: 0, max_budget_usd: 0 }]
        for (const path of ['/api/messages', '/api/async/messages']) expect(await post(path, { prompt: 'x', max_budget_usd: 0 })).toEqual(answer)
        expect(await fleet.list()).toEqual([])
      })

      it('in the types of a form, which Joi takes for what they say', async () => {
        const specs: Json[] = []
        await fleet.runner({ turn: (sink, offer, stopped) => (specs.push(offer.spec), echo(sink, offer, stopped)) })
        expect(await post('/api/messages', { prompt: 'x', max_budget_usd: '2.5', priority: ' 7 ', stream: 'FALSE', async: 'true' })).toMatchObject([202, { priority: 7 }])
        await until('it to run', () => specs[0]?.['max_budget_usd'] === 2.5)
        expect(await post('/api/messages', { prompt: 'x', stream: 'true' })).toEqual([501, no('Streaming is not yet implemented')])
        expect(await post('/api/messages', { prompt: 'x', priority: '1x' })).toEqual([400, no('"priority" must be a number')])
      })

      it('several things at once, and are answered in their order, each by itself', async () => {
        await fleet.runner({ turn: (sink, offer, stopped) => (offer.spec.prompt === 'bad' ? Promise.resolve({}) : echo(sink, offer, stopped)), slots: 2 })
        const prompts = ['0', '1', 'bad', '3', '4', '5', '6']
        const [status, { results, summary }] = await post('/api/messages/batches', { prompts, project_path: '/work/p' })
        expect(status).toBe(200)
        expect((results as Json[]).map(({ success, result, error }) => (success ? result : error))).toEqual(['0', '1', 'the CLI ended without a result', '3', '4', '5', '6'])
        expect(summary).toEqual({ total: 7, successful: 6, failed: 1, total_cost_usd: expect.any(Number), total_duration_ms: expect.any(Number) })
        expect(await post('/api/messages/batches', { prompts: Array.from({ length: 11 }, () => 'x') })).toEqual([400, no('"prompts" must contain less than or equal to 10 items')])
        expect(await post('/api/messages/batches', { prompts: [] })).toEqual([400, no('"prompts" must contain at least 1 items')])
        expect(await post('/api/messages/batches', { prompts: ['x', 5] })).toEqual([400, no('"prompts[1]" must be a string')])
      })
    })

    it('see statistics, config and projects of what they did', async () => {
      await fleet.runner({ turn: echo })
      for (const project_path of ['/work/a', '/work/a', '/work/b']) await post('/api/messages', { prompt: 'x', project_path, model: 'm' })
      const today = new Date().toISOString().slice(0, 10)
      const numbers = { requests: { total: 3, successful: 3, failed: 0 }, tokens: { total_input: 3, total_output: 3 }, costs: { total_usd: 1.5 } }
      const summary = { ...numbers, models: { m: { count: 3, cost_usd: 1.5 } } }
      const daily = [{ date: expect.any(String), ...numbers }]
      const top = [{ model: 'm', count: 3, cost_usd: 1.5 }]
      const get = (path: string) => asked(fleet, 'GET', path)
      expect(await get('/api/statistics/summary')).toEqual([200, { success: true, statistics: summary }])
      expect(await get('/api/statistics')).toEqual([200, { success: true, statistics: { summary, recent_daily: daily, top_models: top } }])
      expect(await get('/api/statistics/daily?limit=30')).toEqual([200, { success: true, daily, count: 1 }])
      expect(await get('/api/statistics/models?limit=10')).toEqual([200, { success: true, models: top, count: 1 }])
      expect(await get(`/api/statistics/range?start=2020-01-01&end=${today.replace(/^\d{4}/, '2100')}`)).toEqual([200, { success: true, statistics: daily, count: 1 }])
      expect(await get('/api/statistics/range?start=2020-01-01&end=2020-01-02')).toEqual([200, { success: true, statistics: [], count: 0 }])
      for (const query of ['', '?start=2020-01-01', '?end=2020-01-01']) expect(await get(`/api/statistics/range${query}`)).toEqual([400, no('Missing required parameters: start and end')])
      expect(await get('/api/statistics/range?start=x&end=y')).toEqual([400, no('"end" must be a valid date')])
      expect(await get('/api/config')).toEqual([
        200,
        { port: Number(new URL(fleet.url).port), defaultProjectPath: null, defaultModel: null, rateLimit: { enabled: false, windowMs: null, maxRequests: null }, statistics: { enabled: true }, version: expect.any(String) },
      ])
      const a = { path: '/work/a', session_count: 2, messages_count: 4, total_cost_usd: 1, last_activity: expect.any(String) }
      const b = { path: '/work/b', session_count: 1, messages_count: 2, total_cost_usd: 0.5, last_activity: expect.any(String) }
      expect(await get('/api/projects?sort_by=total_cost&order=asc')).toEqual([200, { success: true, projects: [b, a], count: 2 }])
      expect(await get('/api/projects?limit=1')).toEqual([200, { success: true, projects: [b], count: 1 }])
      expect(await get('/api/projects/stats')).toMatchObject([200, { success: true, stats: { total_projects: 2, total_sessions: 3, total_messages: 6, total_cost_usd: 1.5 } }])
      expect(await asked(fleet, 'DELETE', '/api/projects/work/a')).toEqual([200, { success: true, message: 'Project deleted', deleted_sessions: 2 }])
      expect(await asked(fleet, 'DELETE', `/api/projects/${encodeURIComponent('/work/b')}`)).toMatchObject([200, { deleted_sessions: 1 }])
      expect(await asked(fleet, 'DELETE', '/api/projects/work/a')).toEqual([404, no('Project not found')])
      expect(await get('/api/projects')).toEqual([200, { success: true, projects: [], count: 0 }])
      expect(await get('/api/sessions')).toEqual([200, { success: true, sessions: [], count: 0 }])
    })

    it('are told when a run was cancelled, by whomever', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn })
      const waiting = post('/api/messages', { prompt: 'x' })
      await cli.running('x')
      const [run] = await fleet.list()
      await fleet.call(`/v1/runs/${run!.id}/cancel`, { method: 'POST' })
      expect(await waiting).toMatchObject([500, no('the run was cancelled')])
    })
  })
}
