/** Tasks of ccs: runs that nobody waits for. And what an operator sets for all of ccs. */
import { beforeEach, describe, expect, it } from 'vitest'
import { SCOPES } from '../../router/core/scopes.ts'
import { mint } from '../../router/guard/tokens.ts'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { readSse } from '../kit/sse.ts'
import { echo, gate, type Gate, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { asked, no, NOWHERE, type Answer } from './compat-ccs-kit.ts'
import { tenantEach } from './tenants.ts'

type Task = Json & { readonly id: string; readonly status: string }

export function ccsTasks(host: Host): void {
  describe('tasks of ccs', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })
    const call = (method: string, path: string, body?: unknown): Promise<Answer> => asked(fleet, method, path, body)
    const started = async (body: Json): Promise<Task> => {
      const [status, { task }] = await call('POST', '/api/tasks/async', body)
      expect(status).toBe(201)
      return task as Task
    }
    const seen = async (id: string) => (await call('GET', `/api/tasks/${id}`))[1]['task'] as Task
    const untilIs = (id: string, status: string) =>
      until(`task ${id} to be ${status}`, async () => {
        const task = await seen(id)
        return task.status === status && task
      })
    const listed = async (query = '') => ((await call('GET', `/api/tasks${query}`))[1]['tasks'] as Task[]).map(({ prompt }) => prompt)

    it('wait, run and end, and say so all the way', async () => {
      const metadata = { webhook_url: 'https://example.com/hook', system_prompt: 'secret words', mcp_config: '{"mcpServers":{"a":{"env":{"KEY":"secret"}}}}', max_budget_usd: 2, allowed_tools: ['Read'], ticket: 'R-7' }
      const task = await started({ prompt: 'x', project_path: '/work/p', model: 'm', priority: 7, metadata })
      const kept = { webhook_url: 'https://example.com/hook', max_budget_usd: 2, allowed_tools: ['Read'], ticket: 'R-7' }
      const waiting = {
        id: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
        created_at: expect.any(String),
        updated_at: expect.any(String),
        status: 'pending',
        prompt: 'x',
        project_path: '/work/p',
        model: 'm',
        priority: 7,
        result: null,
        error: null,
        started_at: null,
        completed_at: null,
        duration_ms: null,
        cost_usd: null,
        session_id: expect.any(String),
        metadata: kept,
      }
      expect(task).toEqual(waiting)
      expect(await call('GET', `/api/tasks/${task.id}`)).toEqual([200, { success: true, task }])
      const specs: Json[] = []
      await fleet.runner({ turn: (sink, offer, stopped) => (specs.push(offer.spec), cli.turn(sink, offer, stopped)) })
      await cli.running('x')
      expect(specs[0]).toMatchObject({ system_prompt: 'secret words', mcp_config: { mcpServers: {} }, max_budget_usd: 2, allowed_tools: ['Read'] })
      expect(await untilIs(task.id, 'processing')).toMatchObject({ started_at: expect.any(String), metadata: kept })
      expect(await call('PATCH', `/api/tasks/${task.id}/priority`, { priority: 2 })).toEqual([400, no('Cannot modify priority for task with status: processing')])
      await cli.finish('x')
      expect(await untilIs(task.id, 'completed')).toMatchObject({ prompt: 'x', completed_at: expect.any(String), cost_usd: 0.5, error: null, metadata: kept })
      expect(JSON.stringify([await call('GET', '/api/tasks'), await fleet.list()])).not.toMatch(/secret/)
      const none = { pending: 0, processing: 0, failed: 0, cancelled: 0 }
      const queue = { running: true, concurrency: 4, active_tasks: 0, total: 1, completed: 1, ...none, total_cost_usd: 0.5 }
      expect(await call('GET', '/api/tasks/queue/status')).toEqual([200, { success: true, queue }])
    })

    it('are made of messages that nobody waits for', async () => {
      await fleet.runner({ turn: echo })
      const accepted = { success: true, message: 'Task created successfully', task_id: expect.any(String), status: 'pending', session_id: expect.any(String), webhook_url: null }
      const [status, first] = await call('POST', '/api/async/messages', { prompt: 'one' })
      expect([status, first]).toEqual([202, { ...accepted, priority: 5 }])
      expect(await untilIs(String(first['task_id']), 'completed')).toMatchObject({ result: 'one', session_id: first['session_id'] })
      const { session_id } = first
      const [, second] = await call('POST', '/api/messages', { prompt: 'two', async: true, priority: 9, session_id, webhook_url: 'https://example.com/h' })
      expect(second).toEqual({ ...accepted, priority: 9, session_id, webhook_url: 'https://example.com/h' })
      expect(await untilIs(String(second['task_id']), 'completed')).toMatchObject({ result: 'two', metadata: { session_id, webhook_url: 'https://example.com/h' } })
      // What somebody waited for is no task.
      await call('POST', '/api/messages', { prompt: 'three' })
      expect(await listed()).toEqual(['two', 'one'])
      expect(await listed('?status=completed&limit=1')).toEqual(['two'])
      expect(await call('POST', '/api/async/messages', { prompt: 'x', session_id: NOWHERE })).toEqual([404, no('Session not found')])
    })

    it('are run by priority, then age, which can be changed for as long as they wait', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await started({ prompt: 'first' })
      await cli.running('first')
      const ids: Record<string, string> = {}
      for (const [prompt, priority] of [['a', 3], ['b', 3], ['c', 8]] as const) ids[prompt] = (await started({ prompt, priority })).id
      expect(await listed('?status=pending')).toEqual(['c', 'a', 'b'])
      expect(await call('PATCH', `/api/tasks/${ids['b']}/priority`, { priority: 9 })).toEqual([
        200,
        { success: true, message: 'Priority updated', task_id: ids['b'], old_priority: 3, new_priority: 9 },
      ])
      for (const priority of [0, 11, 1.5, '5', undefined]) {
        expect(await call('PATCH', `/api/tasks/${ids['b']}/priority`, { priority })).toEqual([400, no('Priority must be a number between 1 and 10')])
      }
      for (const prompt of ['first', 'b', 'c', 'a']) await cli.finish(prompt)
      await untilIs(ids['a']!, 'completed')
      expect(cli.order).toEqual(['first', 'b', 'c', 'a'])
      expect(await call('PATCH', `/api/tasks/${ids['a']}/priority`, { priority: 9 })).toEqual([400, no('Cannot modify priority for task with status: completed')])
    })

    it('end when they are cancelled, waiting or running, and stay so', async () => {
      let stops = 0
      await fleet.runner({
        slots: 1,
        turn: (sink, offer, stopped) => {
          void stopped.then(() => stops++)
          return cli.turn(sink, offer, stopped)
        },
      })
      const running = await started({ prompt: 'running' })
      await cli.running('running')
      const waiting = await started({ prompt: 'waiting' })
      for (const { id } of [waiting, running]) {
        expect(await call('DELETE', `/api/tasks/${id}`)).toEqual([200, { success: true }])
        expect(await seen(id)).toMatchObject({ status: 'cancelled', error: 'the run was cancelled', completed_at: expect.any(String) })
        expect(await call('DELETE', `/api/tasks/${id}`)).toEqual([400, no('Cannot cancel task with status: cancelled')])
      }
      expect([stops, cli.order]).toEqual([1, ['running']])
      // What is not successful is failed there, so that the two add up.
      const [, { statistics }] = await call('GET', '/api/statistics/summary')
      expect(statistics).toMatchObject({ requests: { total: 2, successful: 0, failed: 2 } })
    })

    it('outlive their sessions and projects, without what was said in them', async () => {
      await fleet.runner({ turn: cli.turn })
      const metadata = { ticket: 'R-7' }
      const [kept, dropped] = [await started({ prompt: 'kept', project_path: '/work/p', metadata }), await started({ prompt: 'dropped', metadata })]
      await cli.finish('kept')
      await untilIs(kept.id, 'completed')
      expect(await call('DELETE', '/api/projects/work/p')).toMatchObject([200, { deleted_sessions: 1 }])
      await cli.running('dropped')
      const session = (await seen(dropped.id))['session_id']
      await call('DELETE', `/api/tasks/${dropped.id}`)
      expect(await call('DELETE', `/api/sessions/${String(session)}`)).toMatchObject([200, { success: true }])
      const gone = { prompt: null, result: null, metadata: {} }
      expect(await seen(kept.id)).toMatchObject({ status: 'completed', error: null, cost_usd: 0.5, ...gone })
      expect(await seen(dropped.id)).toMatchObject({ status: 'cancelled', ...gone })
      const [, { tasks }] = await call('GET', '/api/tasks')
      expect((tasks as Task[]).map(({ id, status }) => [id, status])).toEqual([[kept.id, 'completed'], [dropped.id, 'cancelled']])
      expect(await call('GET', '/api/tasks/queue/status')).toMatchObject([200, { queue: { total: 2, completed: 1, cancelled: 1 } }])
    })

    it('are not there under ids that nobody was given', async () => {
      await fleet.runner({ turn: echo })
      const [, { session_id }] = await call('POST', '/api/messages', { prompt: 'x' })
      const [run] = await fleet.list()
      const waited = run!.id.slice(4).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
      for (const id of [NOWHERE, 'x', run!.id, waited, String(session_id)]) {
        expect(await call('GET', `/api/tasks/${id}`)).toEqual([404, no('Task not found')])
        expect(await call('PATCH', `/api/tasks/${id}/priority`, { priority: 1 })).toEqual([404, no('Task not found')])
        expect(await call('DELETE', `/api/tasks/${id}`)).toEqual([400, no('Task not found')])
      }
      expect(await call('GET', '/api/tasks?status=running')).toEqual([400, no('"status" must be one of [pending, processing, completed, failed, cancelled]')])
    })

    it('are run once, whatever becomes of the router meanwhile', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      const running = await started({ prompt: 'running' })
      await cli.running('running')
      const waiting = await started({ prompt: 'waiting' })
      await fleet.restart()
      await cli.finish('running')
      await cli.finish('waiting')
      for (const { id } of [running, waiting]) await untilIs(id, 'completed')
      await fleet.restart()
      expect(await listed('?status=completed')).toEqual(['running', 'waiting'])
      expect(cli.order).toEqual(['running', 'waiting'])
    })
  })

  describe('what is set for ccs', () => {
    const current = tenantEach(host)
    const put = async (fleet: Fleet, what: string, body: Json) => {
      const operator = { kind: 'admin', tenant: 'default', subject: 'operator', jti: crypto.randomUUID(), scopes: SCOPES, ttlS: 60 } as const
      const { token } = await mint(fleet.host.keys, operator, Date.now())
      const response = await fleet.call(`/admin/v1/${what}`, { method: 'PUT', token, body: JSON.stringify(body) })
      expect(response.status).toBe(200)
    }
    const set = (fleet: Fleet, ccs: Json) => put(fleet, 'compat', { ccs })

    it('holds where a request says nothing, and says how long it may take', async () => {
      const fleet = current()
      const specs: Json[] = []
      const { turn } = gate()
      await fleet.runner({ turn: (sink, offer, stopped) => (specs.push(offer.spec), turn(sink, offer, stopped)) })
      await set(fleet, { default_model: 'house', default_project_path: '/work/house', max_budget_usd: 3, timeout_s: 1 })
      expect(await asked(fleet, 'POST', '/api/messages', { prompt: 'x' })).toMatchObject([500, { ...no('Command execution timeout'), details: 'timeout' }])
      expect(specs[0]).toMatchObject({ model: 'house', cwd: '/work/house', max_budget_usd: 3, timeout_s: 1 })
      const [, { session }] = await asked(fleet, 'POST', '/api/sessions', { project_path: '/work/own' })
      // A default is no choice: who is asked for nothing may do the next turn with another one.
      expect(session).toMatchObject({ model: null, project_path: '/work/own' })
      const path = `/api/sessions/${String((session as Json)['id'])}/continue/stream`
      const { events } = await readSse(await fleet.call(path, { method: 'POST', body: JSON.stringify({ prompt: 'y' }) }))
      expect(events.at(-1)).toMatchObject({ event: 'error', data: expect.stringContaining('"Stream timeout (1s)"') })
      expect(specs[1]).toMatchObject({ model: 'house' })
      expect(await asked(fleet, 'GET', '/api/config')).toMatchObject([200, { defaultModel: 'house', defaultProjectPath: '/work/house' }])
    })

    it('is a budget of each session, of which runs that wait hold what the tenant says', async () => {
      const fleet = current()
      const cli = gate()
      const told: unknown[] = []
      const turn: Turn = async (sink, offer, stopped) => {
        told.push(offer.spec.max_budget_usd)
        const end = await cli.turn(sink, offer, stopped)
        return end?.result ? { ...end, result: { ...end.result, cost_usd: 0.1 } } : {}
      }
      await fleet.runner({ turn, slots: 4 })
      await set(fleet, { max_budget_usd: 1 })
      await put(fleet, `limits?tenant=${fleet.tenant}`, { budget: { run_usd: 0.4 } })
      const [, first] = await asked(fleet, 'POST', '/api/async/messages', { prompt: 'a' })
      const next = (prompt: string) => asked(fleet, 'POST', '/api/async/messages', { prompt, session_id: first['session_id'] })
      await cli.running('a')
      const statuses = []
      for (const prompt of ['b', 'c', 'd']) statuses.push((await next(prompt))[0])
      expect(statuses).toEqual([202, 202, 500])
      for (const prompt of ['a', 'b', 'c']) await cli.finish(prompt)
      await until('all to be done', async () => (await asked(fleet, 'GET', '/api/tasks?status=completed'))[1]['count'] === 3)
      expect(told).toEqual([0.4, 0.4, 0.2])
    })

    it('shuts nobody out whose token is good for other models', async () => {
      const fleet = current()
      const specs: Json[] = []
      await fleet.runner({ turn: (sink, offer, stopped) => (specs.push(offer.spec), echo(sink, offer, stopped)) })
      await set(fleet, { default_model: 'house' })
      const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'narrow', limits: { models: ['small'] } })
      const ask = (path: string, body: Json, by?: string) => asked(fleet, 'POST', path, body, by === undefined ? {} : { token: by })
      expect(await ask('/api/messages', { prompt: 'x' }, token)).toMatchObject([200, { result: 'x' }])
      const [, { session_id }] = await ask('/api/messages', { prompt: 'x' })
      // The session remembers the model of its last turn.
      expect(await ask(`/api/sessions/${String(session_id)}/continue`, { prompt: 'y' }, token)).toMatchObject([200, { result: 'y' }])
      expect(await ask('/api/messages', { prompt: 'x', model: 'house' }, token)).toMatchObject([403, no(expect.stringContaining('small'))])
      expect(specs.map(({ model }) => model)).toEqual(['small', 'house', 'small'])
    })

    it('may be that it is not spoken here', async () => {
      const fleet = current()
      await set(fleet, { enabled: false })
      await until('it to be silent', async () => (await fleet.call('/api/config')).status === 404)
      expect(await asked(fleet, 'POST', '/api/messages', { prompt: 'x' })).toMatchObject([404, { code: 'not_found' }])
      await set(fleet, { enabled: true })
    })
  })
}
