import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { identityRouter, type Answer, type IdentityRouter } from '../../test/support/identity-router.ts'
import { insertRunner } from '../store/runners.ts'

let router: IdentityRouter
let operator: string
let acme: string
beforeAll(async () => {
  router = await identityRouter()
  operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
  acme = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
})
afterAll(() => router.close())

const call = (token: string, path: string, body?: unknown, method?: string): Promise<Answer> =>
  router.call(`/admin/v1/${path}`, { token, body, ...(method === undefined ? {} : { method }) })
const verdict = ({ status, body }: Answer) => [status, body['code']]
const dataOf = ({ body }: Answer) => body['data'] as Record<string, unknown>[]
const newestAudit = async (tenant: string) => dataOf(await call(operator, `audit?tenant=${tenant}&limit=1`))[0]

describe('tenants', () => {
  it('are made by an operator, once', async () => {
    const made = await call(operator, 'tenants', { id: 'blue', name: 'Blue', settings: { limits: { concurrent_runs: 3 } } })
    expect([made.status, made.body]).toMatchObject([
      201,
      { id: 'blue', name: 'Blue', disabled: false, settings: { limits: { concurrent_runs: 3 } } },
    ])
    expect(verdict(await call(operator, 'tenants', { id: 'blue' }))).toEqual([409, 'conflict'])
    expect(verdict(await call(acme, 'tenants', { id: 'green' }))).toEqual([403, 'forbidden'])
  })

  it('are listed to an operator in pages, and to others as their own', async () => {
    const first = await call(operator, 'tenants?limit=1')
    const second = await call(operator, `tenants?limit=1&after=${String(first.body['next'])}`)
    expect([...dataOf(first), ...dataOf(second)].map(({ id }) => id)).toEqual(['acme', 'blue'])
    expect(dataOf(await call(acme, 'tenants')).map(({ id }) => id)).toEqual(['acme'])
    expect(verdict(await call(acme, 'tenants/blue'))).toEqual([404, 'not_found'])
    expect((await call(acme, 'tenants/acme')).status).toBe(200)
  })

  it('are changed in the parts that are named, and the change is written down', async () => {
    const { body } = await call(operator, 'tenants/blue', { settings: { routing: { strategy: 'round-robin' } } }, 'PATCH')
    expect(body).toMatchObject({
      name: 'Blue',
      settings: { limits: { concurrent_runs: 3 }, routing: { strategy: 'round-robin' } },
    })
    const { body: less } = await call(operator, 'tenants/blue', { name: null, settings: { limits: null } }, 'PATCH')
    expect(less).toMatchObject({ name: null, settings: { routing: { strategy: 'round-robin' } } })
    expect((await call(operator, 'tenants/blue')).body).toEqual({ ...less, usage: {} })
    expect(await newestAudit('blue')).toMatchObject({
      action: 'tenant.update',
      target: 'tenant/blue',
      actor: 'test',
      before: { name: 'Blue' },
      after: { name: null },
    })
  })

  it('can be disabled, but not the one that could enable it again', async () => {
    expect((await call(operator, 'tenants/blue', { disabled: true }, 'PATCH')).body).toMatchObject({ disabled: true })
    expect((await call(operator, 'tenants/blue', { disabled: false }, 'PATCH')).body).toMatchObject({
      disabled: false,
      disabled_at: null,
    })
    expect(verdict(await call(operator, 'tenants/default', { disabled: true }, 'PATCH'))).toEqual([400, 'invalid_request'])
  })

  it('name what is wrong with a body', async () => {
    for (const [field, body] of [
      ['color', { id: 'x', color: 'red' }],
      ['settings.limits.budget.hour_usd', { id: 'x', settings: { limits: { budget: { hour_usd: 1 } } } }],
      ['id', { id: '../x' }],
    ] as const) {
      expect((await call(operator, 'tenants', body)).body, field).toMatchObject({ code: 'invalid_request', field })
    }
  })
})

describe('limits and routing', () => {
  it('are shown with what holds where nothing is set', async () => {
    expect((await call(acme, 'limits')).body).toMatchObject({ tenant: 'acme', limits: {} })
    expect((await call(acme, 'routing')).body).toMatchObject({ routing: { strategy: 'weighted', failover: true }, set: {} })
  })

  it('are set as a whole, and felt at once by the next request', async () => {
    await router.deps.catalog.tenant('acme')
    const limits = { concurrent_runs: 2, budget: { day_usd: 5 } }
    expect((await call(operator, 'limits?tenant=acme', limits, 'PUT')).body).toMatchObject({ tenant: 'acme', limits })
    expect((await router.deps.catalog.tenant('acme'))?.settings.limits).toEqual(limits)
    expect((await call(acme, 'routing', { failover: false }, 'PUT')).body).toMatchObject({
      routing: { failover: false, strategy: 'weighted' },
      set: { failover: false },
    })
    expect((await call(acme, 'limits')).body).toMatchObject({ limits })
    await call(operator, 'limits?tenant=acme', {}, 'PUT')
    expect((await call(acme, 'limits')).body).toMatchObject({ limits: {} })
  })

  it('of a tenant that is not there make none', async () => {
    for (const [path, body] of [['limits', { concurrent_runs: 2 }], ['routing', { failover: false }]] as const) {
      expect(verdict(await call(operator, `${path}?tenant=nosuch`, body, 'PUT'))).toEqual([404, 'not_found'])
    }
    expect(await router.deps.catalog.tenant('nosuch')).toBeUndefined()
  })

  it('of a tenant are not lifted by its own admins, nor by those of another one', async () => {
    expect(verdict(await call(acme, 'limits', { concurrent_runs: 100 }, 'PUT'))).toEqual([403, 'forbidden'])
    for (const path of ['limits', 'routing', 'audit', 'runners', 'pools', 'enrolment-tokens']) {
      expect(verdict(await call(acme, `${path}?tenant=blue`)), path).toEqual([403, 'forbidden'])
    }
  })

  it('write nothing down when nothing changes', async () => {
    await call(acme, 'routing', { failover: true }, 'PUT')
    const before = await newestAudit('acme')
    await call(acme, 'routing', { failover: true }, 'PUT')
    expect(await newestAudit('acme')).toEqual(before)
  })
})

describe('enrolment tokens', () => {
  it('are listed without the token, and taken back', async () => {
    const made = (await call(acme, 'enrolment-tokens', { pool: 'gpu' })).body
    const listed = await call(acme, 'enrolment-tokens')
    expect(dataOf(listed)).toMatchObject([{ id: made['id'], pool: 'gpu', used_at: null }])
    expect(JSON.stringify(listed.body)).not.toContain(made['token'])
    expect(dataOf(await call(acme, 'pools'))).toMatchObject([{ name: 'gpu', runners: 0, online: 0, enrolments: 1 }])
    const foreign = (await router.mint({ kind: 'admin', tenant: 'blue' })).token
    expect(verdict(await call(foreign, `enrolment-tokens/${String(made['id'])}`, undefined, 'DELETE'))).toEqual([
      404,
      'not_found',
    ])
    expect((await call(acme, `enrolment-tokens/${String(made['id'])}`, undefined, 'DELETE')).status).toBe(204)
    expect(dataOf(await call(acme, 'enrolment-tokens'))).toEqual([])
    expect(verdict(await call(acme, `enrolment-tokens/${String(made['id'])}`, undefined, 'DELETE'))).toEqual([404, 'not_found'])
    expect(await newestAudit('acme')).toMatchObject({ action: 'enrolment.delete', target: `enrolment/${String(made['id'])}` })
  })
})

describe('runners', () => {
  const id = `rnr_${'7'.repeat(32)}`
  beforeAll(() =>
    insertRunner(router.deps.store.db, {
      id,
      tenant: 'acme',
      pool: 'gpu',
      name: 'build-7',
      labels: { os: 'linux' },
      signingJwk: {},
      sealingJwk: {},
      createdAt: router.clock.now,
    }),
  )

  it('are drained, given work again, and revoked for good', async () => {
    expect((await call(acme, `runners/${id}`)).body).toMatchObject({
      name: 'build-7',
      status: 'offline',
      drained: false,
      labels: { os: 'linux' },
    })
    expect((await call(acme, `runners/${id}/drain`, {})).body).toMatchObject({ drained: true })
    expect((await call(acme, `runners/${id}/drain`, undefined, 'DELETE')).body).toMatchObject({
      drained: false,
      drained_at: null,
    })
    expect((await call(operator, `runners/${id}/revoke`, {})).body).toMatchObject({ status: 'revoked' })
    expect(verdict(await call(acme, `runners/${id}/drain`, {}))).toEqual([409, 'conflict'])
    expect(dataOf(await call(operator, 'runners?tenant=acme&pool=gpu'))).toMatchObject([{ id, status: 'revoked' }])
    expect(dataOf(await call(operator, 'audit?tenant=acme&target=runner/' + id)).map(({ action }) => action)).toEqual([
      'runner.revoke',
      'runner.undrain',
      'runner.drain',
    ])
  })

  it('of somebody else are not there', async () => {
    const foreign = (await router.mint({ kind: 'admin', tenant: 'blue' })).token
    for (const [path, method] of [
      ['', 'GET'],
      ['/drain', 'POST'],
      ['/drain', 'DELETE'],
      ['/revoke', 'POST'],
    ] as const) {
      expect(verdict(await call(foreign, `runners/${id}${path}`, undefined, method))).toEqual([404, 'not_found'])
    }
    expect(dataOf(await call(foreign, 'runners'))).toEqual([])
  })
})

describe('the audit', () => {
  it('is paged from the newest, by action and by time', async () => {
    const all = dataOf(await call(operator, 'audit?tenant=acme&limit=100'))
    const paged: unknown[] = []
    for (let after = ''; ;) {
      const { body } = await call(operator, `audit?tenant=acme&limit=2${after}`)
      paged.push(...(body['data'] as unknown[]))
      if (body['next'] === null) break
      after = `&after=${body['next'] as string}`
    }
    expect(paged).toEqual(all)
    expect(dataOf(await call(operator, 'audit?tenant=acme&action=runner.drain'))).toHaveLength(1)
    const later = new Date(router.clock.now + 1).toISOString()
    expect(dataOf(await call(operator, `audit?tenant=acme&since=${later}`))).toEqual([])
    expect(verdict(await call(operator, 'audit?since=yesterday'))).toEqual([400, 'invalid_request'])
    expect(verdict(await call(operator, 'audit?who=me'))).toEqual([400, 'invalid_request'])
  })
})
