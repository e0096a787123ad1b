/** How often a caller may ask, how many runs there may be at once, and what they may cost. */
import { beforeEach, describe, expect, it } from 'vitest'
import { APP_DEFAULT_SCOPES, SCOPES } from '../../router/core/scopes.ts'
import { mint } from '../../router/guard/tokens.ts'
import type { Narrowing, TenantLimits } from '../../shared/tenant-settings.ts'
import type { Fleet, Json, RunView } from '../kit/fleet.ts'
import type { Host, OpenHost } from '../kit/host.ts'
import { gate, resultAt, type Gate, type Turn } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'
import { tenantEach } from './tenants.ts'

type Usage = { total?: Json; day?: Json; runs?: number }

/** What one admin of the operator's tenant can say of another one. */
async function admin(fleet: Fleet, path: string, init: RequestInit = {}): Promise<Json> {
  const jti = crypto.randomUUID()
  const operator = { kind: 'admin', tenant: 'default', subject: 'operator', jti, scopes: SCOPES, ttlS: 60 } as const
  const { token } = await mint(fleet.host.keys, operator, Date.now())
  // It may be there already.
  await fleet.call('/admin/v1/tenants', { method: 'POST', token, body: JSON.stringify({ id: fleet.tenant }) })
  const response = await fleet.call(`/admin/v1/${path}?tenant=${fleet.tenant}`, { ...init, token })
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as Json
}

const limit = (fleet: Fleet, to: TenantLimits) => admin(fleet, 'limits', { method: 'PUT', body: JSON.stringify(to) })
const used = async (fleet: Fleet) => (await admin(fleet, 'limits'))['usage'] as Usage
/** A run may be seen to have ended a moment before the ledger hears of it. */
const untilFree = (fleet: Fleet) =>
  until('nothing to be held', async () => {
    const { total, day, runs } = await used(fleet)
    return (runs ?? 0) === 0 && (total?.['reserved_usd'] ?? 0) === 0 && (day?.['reserved_usd'] ?? 0) === 0
  })

async function appToken({ host, tenant }: { host: OpenHost; tenant: string }, narrowing: Narrowing = {}): Promise<string> {
  const jti = crypto.randomUUID()
  const app = { kind: 'app', tenant, subject: 'app', jti, scopes: APP_DEFAULT_SCOPES, ttlS: 600, narrowing } as const
  return (await mint(host.keys, app, Date.now())).token
}

/** Starts a run with a token of its own. */
const startWith = (fleet: Fleet, token: string, body: object) =>
  fleet.call('/v1/runs', { method: 'POST', token, body: JSON.stringify(body), headers: { prefer: 'respond-async' } })

async function refusedBy(response: Response): Promise<Json> {
  expect(response.status).toBe(402)
  return (await response.json()) as Json
}

/** A CLI that says what its run was allowed to cost, and costs what its prompt says: `0.25`, or `die`. */
const spends =
  (told: Map<string, number | undefined>): Turn =>
  (sink, { run, spec }) => {
    told.set(run, spec.max_budget_usd)
    const seq = sink.line(Buffer.from('{"type":"result","result":"done"}'))
    if (spec.prompt === 'die') return Promise.resolve({ code: null, signal: 'SIGKILL' })
    return Promise.resolve({ result: { ...resultAt(seq), cost_usd: Number(spec.prompt) } })
  }

export function limits(host: Host): void {
  describe('how often a caller may ask', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    beforeEach(() => {
      fleet = current()
    })

    it('is as often as it likes where nothing is set, and nobody speaks of limits', async () => {
      const response = await fleet.call('/v1/runners')
      expect(response.status).toBe(200)
      expect([response.headers.has('ratelimit'), response.headers.has('ratelimit-policy')]).toEqual([false, false])
    })

    it('is up to the limit of its tenant, which all of its tokens share', async () => {
      await limit(fleet, { rates: { read: { rate: 0.01, burst: 20 } } })
      const tokens = [await appToken(fleet), await appToken(fleet)]
      const all = await Promise.all(Array.from({ length: 30 }, (_, i) => fleet.call('/v1/runners', { token: tokens[i % 2]! })))
      expect(all.filter(({ status }) => status === 200).length).toBe(20)
      const refused = all.find(({ status }) => status === 429)
      expect(await refused?.json()).toMatchObject({
        type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
        'violated-policies': ['tenant-read'],
        code: 'rate',
        retryable: true,
        limit: 'tenant',
        class: 'read',
        burst: 20,
        rate: 0.01,
      })
      expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(50)
      // Another class, and another tenant, have limits of their own.
      expect((await fleet.call('/v1/runs/run_x/cancel', { method: 'POST', token: tokens[0]! })).status).toBe(404)
      const other = await fleet.as(`${fleet.tenant}-other`)
      expect((await other.call('/v1/runners')).status).toBe(200)
    })

    it('is up to the limit of its token, and says in every answer what is left', async () => {
      await limit(fleet, { rates: { read: { rate: 0.01, burst: 100 } }, token_rates: { read: { rate: 0.01, burst: 3 } } })
      const [token, other] = [await appToken(fleet), await appToken(fleet)]
      const answers = []
      for (let i = 0; i < 4; i++) answers.push(await fleet.call('/v1/runners', { token }))
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 429])
      for (const { headers } of answers) {
        expect(headers.get('ratelimit-policy')).toBe('"tenant-read";q=100;w=10000, "token-read";q=3;w=300')
      }
      expect(answers.map(({ headers }) => headers.get('ratelimit')?.replace(/;t=\d+$/, ''))).toEqual([
        '"token-read";r=2',
        '"token-read";r=1',
        '"token-read";r=0',
        '"token-read";r=0',
      ])
      for (const { headers } of answers) expect(Number(/;t=(\d+)$/.exec(headers.get('ratelimit') ?? '')?.[1])).toBeGreaterThan(50)
      expect((await fleet.call('/v1/runners', { token: other })).status).toBe(200)
    })

    it('is counted by every limit or by none', async () => {
      await limit(fleet, { rates: { read: { rate: 0.01, burst: 6 } }, token_rates: { read: { rate: 0.01, burst: 2 } } })
      const [greedy, other, third] = [await appToken(fleet), await appToken(fleet), await appToken(fleet)]
      const statuses = []
      for (const token of [greedy, greedy, greedy, greedy, greedy, other, other, third, third]) {
        statuses.push((await fleet.call('/v1/runners', { token })).status)
      }
      expect(statuses).toEqual([200, 200, 429, 429, 429, 200, 200, 200, 200])
    })

    it('is what its token carries or what is set for each token, whichever is less', async () => {
      await limit(fleet, { token_rates: { read: { rate: 0.01, burst: 2 } } })
      for (const [burst, expected] of [
        [1, [200, 429, 429]],
        [3, [200, 200, 429]],
      ] as const) {
        const token = await appToken(fleet, { rates: { read: { rate: 0.01, burst } } })
        const statuses = []
        for (let i = 0; i < 3; i++) statuses.push((await fleet.call('/v1/runs', { token })).status)
        expect(statuses).toEqual(expected)
      }
    })

    it('comes back with time', async () => {
      await limit(fleet, { token_rates: { read: { rate: 2, burst: 1 } } })
      const token = await appToken(fleet)
      expect((await fleet.call('/v1/runners', { token })).status).toBe(200)
      const refused = await fleet.call('/v1/runners', { token })
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '1'])
      await until('the limit to let it through', async () => (await fleet.call('/v1/runners', { token })).status === 200)
    })

    it('is not forgotten by a restart', async () => {
      await limit(fleet, { token_rates: { read: { rate: 0.01, burst: 5 } } })
      const token = await appToken(fleet)
      for (let i = 0; i < 5; i++) expect((await fleet.call('/v1/runners', { token })).status).toBe(200)
      await fleet.restart()
      expect((await fleet.call('/v1/runners', { token })).status).toBe(429)
    })
  })

  describe('how many runs there may be', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let cli: Gate
    beforeEach(() => {
      fleet = current()
      cli = gate()
    })

    it('is as many as are allowed, those that wait included, and a run that ends makes room', async () => {
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await limit(fleet, { concurrent_runs: 2 })
      const first = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      const second = await fleet.start({ prompt: 'second' })
      const third = await fleet.run({ prompt: 'third' })
      expect([third.status, third.headers.get('retry-after')]).toEqual([429, '2'])
      expect(await third.json()).toMatchObject({ code: 'concurrency', retryable: true, limit: 2, running: 2 })
      await fleet.call(`/v1/runs/${second.id}/cancel`, { method: 'POST' })
      await fleet.until(second.id, 'cancelled')
      await until('its place to be free', async () => (await used(fleet)).runs === 1)
      const fourth = await fleet.start({ prompt: 'fourth' })
      await cli.finish('first')
      await fleet.until(first.id, 'succeeded')
      await cli.finish('fourth')
      await fleet.until(fourth.id, 'succeeded')
      await untilFree(fleet)
      expect(await used(fleet)).toEqual({ runs: 0 })
    })

    it('counts those that were under way when the limit was set', async () => {
      await fleet.runner({ turn: cli.turn })
      const first = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      await limit(fleet, { concurrent_runs: 1 })
      expect((await fleet.run({ prompt: 'second' })).status).toBe(429)
      await cli.finish('first')
      await fleet.until(first.id, 'succeeded')
      await untilFree(fleet)
      const second = await fleet.start({ prompt: 'second' })
      await cli.finish('second')
      await fleet.until(second.id, 'succeeded')
    })

    it('is not used up by a run that was refused, or by one and the same request sent often', async () => {
      await limit(fleet, { concurrent_runs: 2, budget: { total_usd: 5 } })
      const body = { prompt: 'x', queue_timeout_s: 0 }
      for (let i = 0; i < 3; i++) expect((await fleet.run(body)).status).toBe(503)
      expect(await used(fleet)).toMatchObject({ runs: 0, total: { spent_usd: 0, reserved_usd: 0 } })
      await fleet.runner({ turn: cli.turn })
      const key = { 'idempotency-key': 'same', prefer: 'respond-async' }
      const { id } = await fleet.start({ prompt: 'once' }, key)
      for (let i = 0; i < 3; i++) expect((await fleet.start({ prompt: 'once' }, key)).id).toBe(id)
      expect(await used(fleet)).toMatchObject({ runs: 1, total: { spent_usd: 0, reserved_usd: 1 } })
      await cli.finish('once')
      await fleet.until(id, 'succeeded')
      await untilFree(fleet)
      expect(await used(fleet)).toMatchObject({ runs: 0, total: { spent_usd: 0.5, reserved_usd: 0 } })
    })
  })

  describe('what runs may cost', () => {
    const current = tenantEach(host)
    let fleet: Fleet
    let told: Map<string, number | undefined>
    beforeEach(() => {
      fleet = current()
      told = new Map()
    })

    it('lets ten of fifty start on a budget for ten, and adds up to what they cost', { timeout: 60_000 }, async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn, slots: 50 })
      await limit(fleet, { budget: { total_usd: 10, run_usd: 1 } })
      const prompts = Array.from({ length: 50 }, (_, i) => `run ${i}`)
      const all = await Promise.all(prompts.map((prompt) => fleet.run({ prompt }, { prefer: 'respond-async' })))
      const taken = all.filter(({ status }) => status === 202)
      expect(taken.length).toBe(10)
      const refused = all.find(({ status }) => status !== 202)
      expect([refused?.status, await refused?.json()]).toMatchObject([
        402,
        { code: 'budget', retryable: false, budget: 'tenant', limit_usd: 10, spent_usd: 0, reserved_usd: 10, asked_usd: 1 },
      ])
      const runs = (await Promise.all(taken.map((response) => response.json()))) as RunView[]
      await until('ten to run', () => cli.order.length === 10)
      // What is held outlives whoever held it.
      await fleet.restart()
      expect(await used(fleet)).toMatchObject({ total: { spent_usd: 0, reserved_usd: 10 } })
      for (const prompt of cli.order) await cli.finish(prompt)
      const ended = await Promise.all(runs.map(({ id }) => fleet.until(id, 'succeeded', 30_000)))
      await untilFree(fleet)
      const sum = ended.reduce((usd, run) => usd + Number(run['cost_usd']), 0)
      expect(await used(fleet)).toMatchObject({ total: { spent_usd: sum, reserved_usd: 0 } })
      expect(sum).toBe(5)
      expect(cli.order.length).toBe(10)
    })

    it('tells the CLI what its run may cost: as asked, as set, and no more than its token allows', async () => {
      await fleet.runner({ turn: spends(told) })
      const narrow = await appToken(fleet, { run_usd: 0.2 })
      const costs = async (token: string, body: object = {}) => {
        const { id } = (await (await startWith(fleet, token, { prompt: '0', ...body })).json()) as RunView
        await fleet.until(id, 'succeeded')
        return told.get(id)
      }
      expect(await costs(fleet.token)).toBeUndefined()
      expect(await costs(narrow, { max_budget_usd: 3 })).toBe(0.2)
      await limit(fleet, { budget: { total_usd: 100 } })
      expect(await costs(fleet.token)).toBe(1)
      await limit(fleet, { budget: { total_usd: 100, run_usd: 0.4 } })
      expect(await costs(fleet.token)).toBe(0.4)
      expect(await costs(fleet.token, { max_budget_usd: 3 })).toBe(3)
      expect(await costs(narrow)).toBe(0.2)
    })

    it('is refused by each budget with its numbers, and when it comes back', async () => {
      await fleet.runner({ turn: spends(told) })
      await limit(fleet, { budget: { day_usd: 2, token_usd: 3, session_usd: 0.5, run_usd: 0.5 } })
      const { id, session_id } = await fleet.start({ prompt: '0.1' })
      await fleet.until(id, 'succeeded')
      await untilFree(fleet)
      const sameSession = await fleet.run({ prompt: '0', session_id })
      expect(await refusedBy(sameSession)).toMatchObject({ budget: 'session', spent_usd: 0.1, asked_usd: 0.5 })
      const day = await fleet.run({ prompt: '0', max_budget_usd: 2 })
      const midnight = expect.stringMatching(/^\d{4}-\d\d-\d\dT00:00:00\.000Z$/) as string
      expect(await refusedBy(day)).toMatchObject({ budget: 'day', limit_usd: 2, resets_at: midnight })
      const poor = await appToken(fleet, { budget_usd: 0.4 })
      const token = await startWith(fleet, poor, { prompt: '0' })
      expect(await refusedBy(token)).toMatchObject({ budget: 'token', limit_usd: 0.4, spent_usd: 0, asked_usd: 0.5 })
      const none = await startWith(fleet, await appToken(fleet, { run_usd: 0 }), { prompt: '0' })
      expect(await refusedBy(none)).toMatchObject({ budget: 'run' })
      expect(await used(fleet)).toMatchObject({ day: { spent_usd: 0.1, reserved_usd: 0 } })
    })

    it('is what was reserved for a run that died without a word, marked as an estimate', async () => {
      await fleet.runner({ turn: spends(told) })
      await limit(fleet, { budget: { total_usd: 2, run_usd: 1.5 } })
      const { id } = await fleet.start({ prompt: 'die' })
      await fleet.until(id, 'failed')
      await untilFree(fleet)
      expect(await fleet.get(id)).toMatchObject({ cost_usd: 1.5, cost_estimated: true })
      expect(await used(fleet)).toMatchObject({ total: { spent_usd: 1.5, reserved_usd: 0 } })
      expect((await fleet.run({ prompt: '0' })).status).toBe(402)
      expect((await fleet.run({ prompt: '0', max_budget_usd: 0.5 })).status).toBe(200)
    })

    it('is bounded and can be read, however much a run says that it cost, and no other run notices', async () => {
      await fleet.runner({ turn: spends(told) })
      await limit(fleet, { budget: { total_usd: 10_000_000 } })
      const runs = await Promise.all(['1e305', '1e12', '0.25'].map((prompt) => fleet.start({ prompt })))
      const ended = await Promise.all(runs.map(({ id }) => fleet.until(id, 'succeeded')))
      expect(ended.map((run) => run['cost_usd'])).toEqual([1_000_000, 1_000_000, 0.25])
      await untilFree(fleet)
      expect(await used(fleet)).toMatchObject({ total: { spent_usd: 2_000_000.25, reserved_usd: 0 } })
      expect((await fleet.run({ prompt: '0' })).status).toBe(200)
    })

    it('ends the wait of those behind, when it is all of the budget', async () => {
      const cli = gate()
      await fleet.runner({ turn: cli.turn, slots: 1 })
      await limit(fleet, { budget: { total_usd: 0.4 } })
      const start = (prompt: string) => fleet.start({ prompt, max_budget_usd: 0.000001 })
      const first = await start('first')
      const behind = await Promise.all(['a', 'b', 'c'].map(start))
      await cli.finish('first')
      await fleet.until(first.id, 'succeeded')
      for (const { id } of behind) {
        expect(await fleet.until(id, 'failed')).toMatchObject({ cost_usd: 0, error: { code: 'rejected' } })
      }
      await untilFree(fleet)
      expect(await used(fleet)).toMatchObject({ total: { spent_usd: 0.5, reserved_usd: 0 } })
      expect(cli.order).toEqual(['first'])
    })

    it('begins with what was spent before there was a budget', async () => {
      await fleet.runner({ turn: spends(told) })
      const { id } = await fleet.start({ prompt: '4' })
      await fleet.until(id, 'succeeded')
      await limit(fleet, { budget: { day_usd: 5, total_usd: 5, run_usd: 2 } })
      const refused = await fleet.run({ prompt: '0' })
      expect([refused.status, await refused.json()]).toMatchObject([402, { spent_usd: 4, reserved_usd: 0, asked_usd: 2 }])
      const over = await fleet.start({ prompt: '1.25', max_budget_usd: 1 })
      expect(await fleet.until(over.id, 'succeeded')).not.toHaveProperty('cost_estimated')
      await untilFree(fleet)
      // More than it was allowed: the CLI looks between two requests. It is charged all the same.
      expect(await used(fleet)).toMatchObject({ total: { spent_usd: 5.25 }, day: { spent_usd: 5.25 } })
    })
  })
}
