/** What is summed up of runs, and what is shown of those at work. */
import { beforeEach, describe, expect, it } from 'vitest'
import { admins, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { gate, type Turn } from '../kit/turns.ts'
import { tenantEach } from './tenants.ts'

/** A turn that costs what its prompt says: `cost input output model`. */
const priced: Turn = (sink, offer) => {
  const [cost = '0', input = '0', output = '0', model = 'opus', bad] = offer.spec.prompt.split(' ')
  const seq = sink.line(Buffer.from('{"type":"result"}'))
  const its = { input_tokens: Number(input), output_tokens: Number(output), cache_creation_input_tokens: 1, cache_read_input_tokens: 2 }
  const failed = bad === undefined ? { is_error: false } : { is_error: true, error: { code: 'refused' as const, message: bad } }
  return Promise.resolve({ result: { seq, ...failed, cost_usd: Number(cost), usage: its, num_turns: 1, model } })
}

type Row = Json & { readonly key: string | null; readonly runs: number; readonly cost_usd: number }
type Usage = { readonly from: string | null; readonly to: string | null; readonly group_by: string | null; readonly total: Row; readonly data: Row[] }

export function usage(host: Host): void {
  describe('what is told of usage', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => {
      fleet = current()
    })
    const ask = async (query = '', token = fleet.token, path = '/v1/usage') => {
      const response = await fleet.call(`${path}${query}`, { token })
      expect(response.status, query).toBe(200)
      return (await response.json()) as Usage
    }
    const today = () => new Date().toISOString().slice(0, 10)

    it('is the exact sum of the results of all runs that have ended, by whatever it is asked', async () => {
      await fleet.runner({ turn: priced, slots: 4 })
      // Added one after the other as they are, these are 0.6000000000000001 or 0.6, by their order.
      const bodies = ['0.1 10 1 opus', '0.2 20 2 sonnet', '0.3 30 3 opus', '0 40 4 haiku bad'].map((prompt) => ({ prompt, cwd: '/work/a' }))
      const runs: Json[] = []
      for (const body of bodies) runs.push((await (await fleet.run(body)).json()) as Json)
      await fleet.run({ prompt: '0.000000001 1 1 opus', cwd: '/work/b', session_id: runs[0]!['session_id'] })
      const again = { prompt: '0.4 50 5 opus', session_id: runs[0]!['session_id'] }
      expect((await fleet.run(again)).status).toBe(200)
      const sums = { runs: 5, succeeded: 4, failed: 1, cancelled: 0, sessions: 4, input_tokens: 150, output_tokens: 15, cache_creation_input_tokens: 5, cache_read_input_tokens: 10 }
      const { total, data } = await ask()
      expect([total, data]).toMatchObject([{ ...sums, cost_usd: 1, estimated: 0 }, []])
      expect(total['duration_ms']).toBe((await fleet.list()).reduce((sum, run) => sum + Number(run['duration_ms']), 0))
      const by = async (key: string) => (await ask(`?group_by=${key}`)).data.map((row) => [row.key, row.runs, row.cost_usd])
      expect(await by('model')).toEqual([['opus', 3, 0.8], ['sonnet', 1, 0.2], ['haiku', 1, 0]])
      expect(await by('day')).toEqual([[today(), 5, 1]])
      expect(await by('provider')).toEqual([['local', 5, 1]])
      expect(await by('project')).toEqual([['/work/a', 5, 1]])
      expect(await by('origin')).toEqual([['native', 5, 1]])
      expect((await by('session'))[0]).toEqual([runs[0]!['session_id'], 2, 0.5])
      expect(await ask(`?session_id=${String(runs[0]!['session_id'])}`)).toMatchObject({ total: { runs: 2, cost_usd: 0.5 } })
      expect(await ask('?group_by=model&order=key&limit=1')).toMatchObject({ total: { runs: 5 }, data: [{ key: 'sonnet' }] })
      expect(await ask('?project=/work/b&group_by=model')).toMatchObject({ total: { runs: 0, cost_usd: 0, last_ended_at: null }, data: [] })
    })

    it('is by the name of a model alone, however the CLI says it in the first turn and in the next', async () => {
      await fleet.runner({ turn: priced })
      for (const model of ['opus-4[1m]', 'opus-4', '[odd]', 'odd[', 'opus-4[1m]']) await fleet.run({ prompt: `0.25 1 1 ${model}` })
      const { data } = await ask('?group_by=model&order=runs')
      expect(data.map((row) => [row.key, row.runs, row.cost_usd])).toEqual([['opus-4', 3, 0.75], ['[odd]', 1, 0.25], ['odd[', 1, 0.25]])
      const response = await fleet.call('/api/statistics/models')
      expect(await response.json()).toMatchObject({ models: [{ model: 'opus-4', count: 3, cost_usd: 0.75 }, {}, {}] })
    })

    it('is of the days that are asked for, of UTC and with their ends', async () => {
      await fleet.runner({ turn: priced })
      const { ended_at } = (await (await fleet.run({ prompt: '0.5' })).json()) as { ended_at: string }
      const day = ended_at.slice(0, 10)
      const count = async (query: string) => (await ask(query)).total.runs
      const shift = (days: number) => new Date(Date.parse(day) + days * 86_400_000).toISOString().slice(0, 10)
      expect(await count(`?from=${day}&to=${day}`)).toBe(1)
      expect(await count(`?from=${shift(1)}`)).toBe(0)
      expect(await count(`?to=${shift(-1)}`)).toBe(0)
      expect(await count(`?from=${ended_at}`)).toBe(1)
      expect(await count(`?to=${ended_at}`)).toBe(0)
      expect(await ask(`?from=${day}&to=${day}`)).toMatchObject({ from: `${day}T00:00:00.000Z`, to: `${shift(1)}T00:00:00.000Z` })
      expect(await ask('?from=0000-01-01&to=9999-12-31')).toMatchObject({ from: '1970-01-01T00:00:00.000Z', to: '9999-12-31T23:59:59.999Z', total: { runs: 1 } })
      expect(await count(`?from=${shift(-399)}&to=${day}&group_by=day`)).toBe(1)
      const bad = [`?from=${shift(1)}&to=${day}`, `?from=${shift(-400)}&to=${day}&group_by=day`, '?from=yesterday', '?to=2026-02-30', '?from=1', '?group_by=tenant', '?group_by=token', '?order=x', '?limit=0', '?limit=1001', '?x=1']
      for (const query of bad) {
        const response = await fleet.call(`/v1/usage${query}`)
        expect([query, response.status]).toEqual([query, 400])
      }
    })

    it('has runs that nobody counted and runs that came to nothing, and none that live', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn, slots: 1 })
      const { id } = await fleet.start({ prompt: 'x' })
      await cli.running('x')
      const waiting = await fleet.start({ prompt: 'y' })
      expect(await ask()).toMatchObject({ total: { runs: 0, cost_usd: 0 } })
      for (const one of [waiting.id, id]) {
        await fleet.call(`/v1/runs/${one}/cancel`, { method: 'POST' })
        await fleet.until(one, 'cancelled')
      }
      const { total } = await ask()
      expect(total).toMatchObject({ runs: 2, cancelled: 2, succeeded: 0, failed: 0 })
      const costs = (await fleet.list()).map((run) => Number(run['cost_usd'] ?? 0))
      expect(total.cost_usd).toBe(costs.reduce((sum, cost) => sum + cost, 0))
    })

    it('is of the own tenant, and of all for an operator only', async () => {
      await fleet.runner({ turn: priced })
      await fleet.run({ prompt: '0.25' })
      const other = await fleet.as('usage-other')
      const { adminToken: operator } = await fleet.as('default')
      expect((await ask('', other.token)).total.runs).toBe(0)
      const admin = '/admin/v1/usage'
      expect(await ask('?group_by=tenant', fleet.adminToken, admin)).toMatchObject({ data: [{ key: fleet.tenant, runs: 1, cost_usd: 0.25 }] })
      expect((await ask('?group_by=tenant', other.adminToken, admin)).data).toEqual([])
      const all = await ask('?group_by=tenant&limit=1000', operator, admin)
      expect(all.data.find(({ key }) => key === fleet.tenant)).toMatchObject({ runs: 1, cost_usd: 0.25 })
      expect(await ask(`?tenant=${fleet.tenant}`, operator, admin)).toMatchObject({ total: { runs: 1 } })
      expect((await fleet.call(`${admin}?tenant=${fleet.tenant}`, { token: other.adminToken })).status).toBe(403)
      expect((await fleet.call(admin)).status).toBe(403)
      await other.close()
    })

    it('needs its scope', async () => {
      const { token } = await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'x', scopes: ['runs:read'] })
      expect((await fleet.call('/v1/usage', { token })).status).toBe(403)
    })
  })

  describe('what is at work', () => {
    const current = tenantEach(host)

    it('is shown as long as it is, with where and since when', async () => {
      const fleet = current()
      const cli = gate()
      const runner = await fleet.runner({ turn: cli.turn, slots: 1 })
      const shown = async (of = fleet) => ((await (await of.call('/v1/processes')).json()) as { data: Json[] }).data
      const { id, session_id } = await fleet.start({ prompt: 'x', cwd: '/work/x', model: 'opus' })
      await cli.running('x')
      await fleet.start({ prompt: 'y' })
      const { started_at } = await fleet.until(id, 'running')
      const process = { run_id: id, session_id, runner_id: runner.id, cwd: '/work/x', model: 'opus', origin: 'native', started_at }
      expect(await shown()).toMatchObject([process])
      const other = await fleet.as('somebody-else')
      expect(await shown(other)).toEqual([])
      await other.close()
      for (const prompt of ['x', 'y']) await cli.finish(prompt)
      await fleet.until(id, 'succeeded')
    })
  })

  describe('the list of models', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => {
      fleet = current()
    })
    const list = async (token = fleet.token) => (await (await fleet.call('/v1/models', { token })).json()) as Json & { data: { id: string; providers: string[] }[] }
    const names = async (token?: string) => (await list(token)).data.map(({ id, providers }) => `${id}: ${providers.join(', ')}`)

    it('has the aliases of the CLI while nobody but the login of a machine can pay', async () => {
      const models = await list()
      const opus = { id: 'opus', object: 'model', type: 'model', display_name: 'opus', created: 0, created_at: '1970-01-01T00:00:00.000Z', owned_by: 'local', providers: ['local'] }
      expect(models).toMatchObject({ object: 'list', has_more: false, first_id: 'haiku', last_id: 'sonnet', data: [{ id: 'haiku' }, opus, { id: 'sonnet' }] })
    })

    it('has what the providers of the tenant serve, as far as the token may use them', async () => {
      const provider = (id: string, more: object) => admins(fleet, 'providers', { id, base_url: 'https://api.example', api_key: 'sk-0123456789abcdef', ...more })
      await provider('glm', { models: ['glm-4.7'], env: { ANTHROPIC_DEFAULT_SONNET_MODEL: 'glm-4.7' }, model_map: { 'claude-x': 'glm-4.7' } })
      await provider('gpu', { models: ['big'], pools: ['gpu'] })
      await provider('off', { models: ['none'], enabled: false })
      expect(await names()).toEqual(['big: gpu', 'claude-x: glm', 'glm-4.7: glm', 'sonnet: glm'])
      const narrow = async (limits: object) => (await admins<{ token: string }>(fleet, 'tokens', { kind: 'app', subject: 'x', limits })).token
      expect(await names(await narrow({ pools: ['default'] }))).toEqual(['claude-x: glm', 'glm-4.7: glm', 'sonnet: glm'])
      expect(await names(await narrow({ models: ['big', 'other'] }))).toEqual(['big: gpu'])
      await provider('any', {})
      expect(await names(await narrow({ models: ['big', 'other'] }))).toEqual(['big: any, gpu', 'other: any'])
      expect(await names()).toEqual(['big: any, gpu', 'claude-x: any, glm', 'glm-4.7: any, glm', 'haiku: any', 'opus: any', 'sonnet: any, glm'])
    })
  })
}
