/** What an admin does, and that it is felt: the same on every host, through its own database and its own way to a runner. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enroll } from '../../runner/enroll.ts'
import { admins, startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { RawRunner } from '../kit/raw-runner.ts'
import { echo, gate } from '../kit/turns.ts'
import { until } from '../kit/wait.ts'

const KEY = 'sk-test-canary-0123456789'
/** Revoked is shut out within this time, whoever was asked. */
const REVOKED_MS = 5_000

export function admin(host: Host): void {
  describe('an admin', () => {
    let operator: Fleet
    let count = 0
    beforeAll(async () => void (operator = await startFleet(host, {})))
    afterAll(() => operator.close())
    const newTenant = () => operator.as(`admins-${++count}`)

    const ask = async (fleet: Fleet, method: string, path: string, body?: object): Promise<{ status: number; body: Json }> => {
      const response = await fleet.call(`/admin/v1/${path}`, {
        method,
        token: fleet.adminToken,
        ...(body ? { body: JSON.stringify(body) } : {}),
      })
      const text = await response.text()
      return { status: response.status, body: text === '' ? {} : (JSON.parse(text) as Json) }
    }
    const get = async (fleet: Fleet, path: string) => (await ask(fleet, 'GET', path)).body
    const dataOf = async (fleet: Fleet, path: string) => (await get(fleet, path))['data'] as Json[]

    it('drains a runner, which finishes what it has and gets nothing new until the drain is taken back', async () => {
      const fleet = await newTenant()
      const cli = gate()
      const { id } = await fleet.runner({ turn: cli.turn })
      const run = await fleet.start({ prompt: 'first' })
      await cli.running('first')
      expect((await ask(fleet, 'POST', `runners/${id}/drain`, {})).body).toMatchObject({ drained: true, status: 'draining' })
      const refused = await fleet.run({ prompt: 'second', queue_timeout_s: 0 })
      expect([refused.status, await refused.json()]).toMatchObject([429, { code: 'busy' }])
      expect(await dataOf(fleet, 'pools')).toMatchObject([{ name: 'default', online: 1, draining: 1, slots: 0, busy: 1 }])
      await cli.finish('first')
      await fleet.until(run.id, 'succeeded')
      const waiting = await fleet.start({ prompt: 'third' })
      expect((await ask(fleet, 'DELETE', `runners/${id}/drain`)).body).toMatchObject({ drained: false, status: 'online' })
      await cli.finish('third')
      await fleet.until(waiting.id, 'succeeded')
    })

    it('keeps a runner drained over a restart', async () => {
      const fleet = await newTenant()
      const { id } = await fleet.runner({ turn: echo })
      await ask(fleet, 'POST', `runners/${id}/drain`, {})
      await fleet.restart()
      await fleet.allRunners('draining')
      expect(await get(fleet, `runners/${id}`)).toMatchObject({ drained: true, status: 'draining' })
    })

    it('revokes a runner: its connection ends and its keys open nothing', async () => {
      const fleet = await newTenant()
      const runner = await RawRunner.enlist(fleet)
      const token = await runner.token()
      const { id } = await fleet.runner({ turn: echo })
      const since = performance.now()
      expect((await ask(fleet, 'POST', `runners/${id}/revoke`, {})).body).toMatchObject({ status: 'revoked' })
      await fleet.allRunners('offline', REVOKED_MS)
      expect(performance.now() - since).toBeLessThan(REVOKED_MS)
      const [raw] = (await dataOf(fleet, 'runners')).filter((row) => row['id'] !== id)
      await ask(fleet, 'POST', `runners/${String(raw!['id'])}/revoke`, {})
      await until(
        'its token to be refused',
        async () => (await fleet.call('/v1/runners/connect', { token })).status === 401,
        REVOKED_MS,
      )
      expect(await dataOf(fleet, 'audit?action=runner.revoke')).toHaveLength(2)
    })

    it('takes an enrolment token back before somebody uses it', async () => {
      const fleet = await newTenant()
      const made = await admins<{ id: string; token: string }>(fleet, 'enrolment-tokens', { pool: 'gpu' })
      expect((await ask(fleet, 'DELETE', `enrolment-tokens/${made.id}`)).status).toBe(204)
      const stateDir = await mkdtemp(join(tmpdir(), 'runyard-enrol-'))
      await expect(enroll({ url: fleet.url, token: made.token, name: 'late', labels: {}, stateDir })).rejects.toMatchObject({
        problem: 'refused',
      })
      await rm(stateDir, { recursive: true })
    })

    it('enters a provider once, changes it, and finds it again after a restart', async () => {
      const fleet = await newTenant()
      const main = { id: 'main', base_url: 'https://api.example.com', api_key: KEY }
      expect(await admins(fleet, 'providers', main)).toMatchObject({ id: 'main', version: 1, key: { last4: '6789' } })
      expect(await ask(fleet, 'POST', 'providers', main)).toMatchObject({ status: 409, body: { code: 'conflict' } })
      expect((await ask(fleet, 'PATCH', 'providers/main', { weight: 3, pools: ['gpu'] })).body).toMatchObject({
        weight: 3,
        pools: ['gpu'],
        version: 1,
      })
      expect((await ask(fleet, 'PATCH', 'providers/main', { api_key: 'sk-another-key-7777' })).body).toMatchObject({
        version: 2,
        key: { last4: '7777' },
      })
      await Promise.all(['disable', 'reset'].map((verb) => ask(fleet, 'POST', `providers/main/${verb}`, {})))
      await fleet.restart()
      expect(await dataOf(fleet, 'providers')).toMatchObject([
        { id: 'main', weight: 3, enabled: false, version: 2, health: { state: 'closed' } },
      ])
      expect((await ask(fleet, 'DELETE', 'providers/main')).status).toBe(204)
      expect((await ask(fleet, 'GET', 'providers/main')).status).toBe(404)
      const actions = (await dataOf(fleet, 'audit')).map(({ action }) => String(action))
      expect(actions.toSorted()).toEqual([
        'provider.create',
        'provider.delete',
        'provider.disable',
        'provider.reset',
        'provider.update',
        'provider.update',
        'token.create',
      ])
      expect(JSON.stringify(await get(fleet, 'audit'))).not.toContain(KEY)
    })

    it('is told of two changes at once that one of them did not happen', async () => {
      const fleet = await newTenant()
      const made = await Promise.all(
        [1, 2, 3, 4].map((weight) =>
          ask(fleet, 'POST', 'providers', { id: 'main', base_url: 'https://api.example.com', api_key: KEY, weight }),
        ),
      )
      expect(made.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 409, 409, 409])
      const keys = await Promise.all(
        [1, 2, 3, 4].map((n) => ask(fleet, 'PATCH', 'providers/main', { api_key: `sk-rotated-key-000${n}` })),
      )
      const won = keys.filter(({ status }) => status === 200)
      expect([won.length >= 1, keys.every(({ status }) => status === 200 || status === 409)]).toEqual([true, true])
      expect(await get(fleet, 'providers/main')).toMatchObject({ version: 1 + won.length })
      expect((await dataOf(fleet, 'audit?action=provider.update')).length).toBe(won.length)
    })

    it('refuses a base URL in his own network where every runner that is connected would', async () => {
      const fleet = await newTenant()
      const wish = { id: 'near', base_url: 'http://127.0.0.1:9', api_key: KEY }
      await fleet.runner({ turn: echo })
      expect(await ask(fleet, 'POST', 'providers', wish)).toMatchObject({
        status: 403,
        body: { code: 'policy', field: 'base_url' },
      })
      expect(await ask(fleet, 'POST', 'providers', { ...wish, pools: ['elsewhere'] })).toMatchObject({
        status: 201,
        body: { warnings: [expect.stringContaining('none is connected')] },
      })
    })

    it('sets the parts of a tenant by themselves, and shuts it out as a whole', async () => {
      const fleet = await newTenant()
      expect((await fleet.call('/v1/runs')).status).toBe(200)
      await ask(operator, 'POST', 'tenants', { id: fleet.tenant })
      await ask(operator, 'PUT', `limits?tenant=${fleet.tenant}`, { concurrent_runs: 2 })
      await ask(fleet, 'PUT', 'routing', { failover: false })
      expect(await get(operator, `tenants/${fleet.tenant}`)).toMatchObject({
        settings: { limits: { concurrent_runs: 2 }, routing: { failover: false } },
      })
      await ask(operator, 'PATCH', `tenants/${fleet.tenant}`, { settings: { limits: null } })
      expect((await get(operator, `tenants/${fleet.tenant}`))['settings']).toEqual({ routing: { failover: false } })
      expect(await ask(operator, 'POST', 'tenants', { id: fleet.tenant })).toMatchObject({
        status: 409,
        body: { code: 'conflict' },
      })
      expect(await ask(fleet, 'PUT', 'limits', {})).toMatchObject({ status: 403 })
      await ask(operator, 'PATCH', `tenants/${fleet.tenant}`, { disabled: true })
      await until('its tokens to be refused', async () => [401, 403].includes((await fleet.call('/v1/runs')).status), REVOKED_MS)
      await ask(operator, 'PATCH', `tenants/${fleet.tenant}`, { disabled: false })
      await until('its tokens to be taken again', async () => (await fleet.call('/v1/runs')).status === 200, REVOKED_MS)
    })

    it('shuts out the machines of a tenant with it: what waits is not begun', async () => {
      const fleet = await newTenant()
      const raw = await RawRunner.enlist(fleet)
      const link = await raw.connect()
      const running = fleet.start({ prompt: 'runs' })
      await link.begin()
      await running
      await fleet.start({ prompt: 'waits' })
      await ask(operator, 'PATCH', `tenants/${fleet.tenant}`, { disabled: true })
      expect(await link.closed).toBe(4403)
      await expect(raw.dial()).rejects.toThrow(/403|disabled|refuse/i)
      expect(link.received.filter(({ t }) => t === 'offer')).toEqual([])
    })

    it('reads long lists page by page', async () => {
      const fleet = await newTenant()
      const made = await Promise.all(
        ['a', 'b', 'c', 'd', 'e'].map((pool) => admins<{ id: string }>(fleet, 'enrolment-tokens', { pool })),
      )
      const seen: string[] = []
      for (let after = ''; ;) {
        const { data, next } = (await get(fleet, `enrolment-tokens?limit=2${after}`)) as { data: Json[]; next: string | null }
        seen.push(...data.map(({ id }) => String(id)))
        if (next === null) break
        after = `&after=${next}`
      }
      expect(seen.toSorted()).toEqual(made.map(({ id }) => id).toSorted())
      expect((await ask(fleet, 'GET', 'enrolment-tokens?limit=0')).status).toBe(400)
    })

    it('is told where there is no config file', async () => {
      expect(await ask(operator, 'POST', 'config/reload', {})).toMatchObject({
        status: 404,
        body: { code: 'not_found', detail: expect.stringContaining('no config file') },
      })
      expect(await ask(await newTenant(), 'POST', 'config/reload', {})).toMatchObject({ status: 403 })
    })
  })
}
