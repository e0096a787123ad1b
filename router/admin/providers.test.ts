import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { identityRouter, type Answer, type IdentityRouter } from '../../test/support/identity-router.ts'
import { bindings, providerHealth } from '../../drizzle/schema.ts'
import { openKey } from '../providers/keys.ts'
import { findProvider } from '../store/providers.ts'

const KEY = 'sk-test-canary-0123456789'
const main = { id: 'main', base_url: 'https://api.example.com/', api_key: KEY }

let router: IdentityRouter
let admin: string
beforeAll(async () => {
  router = await identityRouter()
  admin = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
})
afterAll(() => router.close())

const call = (path: string, body?: unknown, method?: string): Promise<Answer> =>
  router.call(`/admin/v1/${path}`, { token: admin, body, ...(method === undefined ? {} : { method }) })
const verdict = ({ status, body }: Answer) => [status, body['code'], body['field']]
const dataOf = ({ body }: Answer) => body['data'] as Record<string, unknown>[]
const stored = async (id: string) => (await findProvider(router.deps.store.db, 'acme', id))!
const audited = async () => dataOf(await call('audit?limit=1'))[0]

describe('a provider', () => {
  it('is added with its key, which is shown by its end and a fingerprint only', async () => {
    const { status, body } = await call('providers', main)
    expect([status, body]).toMatchObject([
      201,
      {
        id: 'main',
        name: 'main',
        base_url: 'https://api.example.com',
        weight: 1,
        enabled: true,
        models: null,
        version: 1,
        warnings: [],
      },
    ])
    expect(body['key']).toEqual({ last4: '6789', fingerprint: expect.stringMatching(/^[0-9a-f]{16}$/) })
    expect(body['health']).toMatchObject({ state: 'closed', consecutive_failures: 0, requests: 0, bound_sessions: 0 })
    expect(await openKey(router.deps.vault, await stored('main'))).toBe(KEY)
  })

  it('is there once', async () => {
    expect(verdict(await call('providers', main))).toEqual([409, 'conflict', undefined])
  })

  it('is changed in what is named; a change of weight leaves the key alone', async () => {
    const { body } = await call(
      'providers/main',
      { weight: 3, models: ['opus'], model_map: { opus: 'big' }, prices: { '*': { input: 1, output: 2 } } },
      'PATCH',
    )
    expect(body).toMatchObject({ weight: 3, models: ['opus'], model_map: { opus: 'big' }, version: 1 })
    expect(await audited()).toMatchObject({
      action: 'provider.update',
      target: 'provider/main',
      before: { weight: 1 },
      after: { weight: 3 },
    })
    expect((await call('providers/main', { weight: 3 }, 'PATCH')).body).toEqual({ ...body, warnings: [] })
  })

  it('gets a new version with another key or base URL, under which the key opens', async () => {
    expect((await call('providers/main', { api_key: 'sk-another-key-7777' }, 'PATCH')).body).toMatchObject({
      version: 2,
      key: { last4: '7777' },
    })
    expect((await call('providers/main', { base_url: 'https://api.example.com/v2' }, 'PATCH')).body).toMatchObject({
      version: 3,
      key: { last4: '7777' },
    })
    expect(await openKey(router.deps.vault, await stored('main'))).toBe('sk-another-key-7777')
    expect((await call('providers/main', { api_key: 'sk-another-key-7777' }, 'PATCH')).body).toMatchObject({ version: 3 })
  })

  it('is not asked again about an address that stays as it is, whatever the owners of now forbid', async () => {
    await call('providers', { ...main, id: 'inside', base_url: 'http://10.1.2.3:8080' })
    const policy = { permission_modes: [], bypass: false, mcp_config: false, agents: true, system_prompts: true, allow_private_base_urls: false, sandbox: 'none' }
    const strict = { id: 'r', pool: 'default', labels: {}, slots: 1, busy: 0, draining: false, provider: null, cliVersion: null, agentVersion: '0', policy }
    const { hub } = router.deps
    Object.assign(router.deps, { hub: { ...hub, online: () => Promise.resolve([strict]) } })
    try {
      expect((await call('providers/inside', { weight: 3, base_url: 'http://10.1.2.3:8080' }, 'PATCH')).body).toMatchObject({ weight: 3, warnings: [] })
      expect(verdict(await call('providers/inside', { base_url: 'http://10.1.2.3:9090', api_key: KEY }, 'PATCH'))).toEqual([403, 'policy', 'base_url'])
    } finally {
      Object.assign(router.deps, { hub })
    }
  })

  it('keeps its key from another port of the same host, too', async () => {
    const moved = await call('providers/inside', { base_url: 'http://10.1.2.3:9090' }, 'PATCH')
    expect(verdict(moved)).toEqual([400, 'invalid_request', 'api_key'])
    await call('providers/inside', undefined, 'DELETE')
  })

  it('of a tenant that is not there is refused: a slip of the pen makes no tenant', async () => {
    const { token } = await router.mint({ kind: 'admin', tenant: 'default' })
    const answer = await router.call('/admin/v1/providers', { token, body: { ...main, tenant: 'acmee' } })
    expect(verdict(answer)).toEqual([404, 'not_found', 'tenant'])
  })

  it('does not send its key to another host because somebody changed the base URL', async () => {
    for (const base_url of ['https://evil.example', 'http://api.example.com/v2']) {
      expect(verdict(await call('providers/main', { base_url }, 'PATCH'))).toEqual([400, 'invalid_request', 'api_key'])
    }
    expect((await call('providers/main', { base_url: 'https://other.example', api_key: KEY }, 'PATCH')).body).toMatchObject({
      version: 4,
    })
  })

  it('is disabled, enabled, and listed in either case', async () => {
    expect((await call('providers/main/disable', {})).body).toMatchObject({ enabled: false })
    expect(dataOf(await call('providers'))).toMatchObject([{ id: 'main', enabled: false }])
    expect((await call('providers/main/enable', {})).body).toMatchObject({ enabled: true })
    expect(await audited()).toMatchObject({ action: 'provider.enable' })
  })

  it('is felt at once by what chooses among providers', async () => {
    expect(await router.deps.catalog.providers('acme')).toMatchObject([{ id: 'main', weight: 3 }])
    await call('providers/main', { weight: 7 }, 'PATCH')
    expect(await router.deps.catalog.providers('acme')).toMatchObject([{ weight: 7 }])
  })

  it('shows its breaker and how many sessions are with it; a reset closes it', async () => {
    const { db } = router.deps.store
    const now = router.clock.now
    const count = { tenant: 'acme', provider: 'main', requests: 9, failed: 4, failures: 3, latencyMs: 12.4, updatedAt: now }
    await db.insert(providerHealth).values({ ...count, state: 'open', reason: 'auth' })
    const session = crypto.randomUUID()
    await db.insert(bindings).values({ session, tenant: 'acme', provider: 'main', createdAt: now, expiresAt: now + 1_000 })
    const health = {
      state: 'open',
      reason: 'auth',
      open_until: null,
      consecutive_failures: 3,
      requests: 9,
      failed: 4,
      latency_ms: 12,
      bound_sessions: 1,
    }
    expect((await call('providers/main/health')).body).toMatchObject(health)
    expect(dataOf(await call('providers'))).toMatchObject([{ health }])
    expect((await call('providers/main/reset', {})).body).toMatchObject({
      health: { state: 'closed', consecutive_failures: 0, requests: 9, bound_sessions: 1 },
    })
    expect(await audited()).toMatchObject({ action: 'provider.reset', before: { state: 'open' } })
    expect(dataOf(await call('bindings?provider=main'))).toMatchObject([{ session_id: session, provider: 'main' }])
    expect((await call(`bindings/${session}`, undefined, 'DELETE')).status).toBe(204)
    expect(verdict(await call(`bindings/${session}`, undefined, 'DELETE'))).toEqual([404, 'not_found', undefined])
  })

  it('is removed, with its health', async () => {
    expect((await call('providers/main', undefined, 'DELETE')).status).toBe(204)
    expect(verdict(await call('providers/main'))).toEqual([404, 'not_found', undefined])
    await call('providers', main)
    expect((await call('providers/main/health')).body).toMatchObject({ requests: 0 })
  })

  it('that is the login of the machine has neither key nor base URL', async () => {
    expect((await call('providers', { id: 'local' })).body).toMatchObject({ id: 'local', base_url: null, key: null })
    expect(verdict(await call('providers', { ...main, id: 'local' }))).toEqual([400, 'invalid_request', 'base_url'])
    expect(verdict(await call('providers/local', { api_key: KEY }, 'PATCH'))).toEqual([400, 'invalid_request', 'api_key'])
  })

  it('of another tenant is not there', async () => {
    const foreign = (await router.mint({ kind: 'admin', tenant: 'blue' })).token
    const operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    const ask = (token: string, path: string) => router.call(`/admin/v1/${path}`, { token })
    expect(verdict(await ask(foreign, 'providers/main'))).toEqual([404, 'not_found', undefined])
    expect(verdict(await ask(foreign, 'providers/main?tenant=acme'))).toEqual([403, 'forbidden', 'tenant'])
    expect((await ask(operator, 'providers/main')).status).toBe(404)
    expect((await ask(operator, 'providers/main?tenant=acme')).status).toBe(200)
  })
})

describe('a body that is not right', () => {
  it.each<[string, object]>([
    ['api_key', { id: 'x', base_url: main.base_url }],
    ['base_url', { id: 'x', api_key: KEY }],
    ['base_url', { ...main, id: 'x', base_url: `https://${KEY}@api.example.com` }],
    ['api_key', { ...main, id: 'x', api_key: `${KEY}\n` }],
    ['api_key', { ...main, id: 'x', api_key: KEY.slice(-7) }],
    ['id', { ...main, id: 'Main' }],
    ['id', { ...main, id: 'demo' }],
    ['weight', { ...main, id: 'x', weight: 11 }],
    ['weight', { ...main, id: 'x', weight: 1.5 }],
    ['pools.0', { ...main, id: 'x', pools: ['a b'] }],
    ['env.ANTHROPIC_AUTH_TOKEN', { ...main, id: 'x', env: { ANTHROPIC_AUTH_TOKEN: KEY } }],
    ['env.ANTHROPIC_BASE_URL', { ...main, id: 'x', env: { ANTHROPIC_BASE_URL: 'https://x.example' } }],
    ['prices.*.output', { ...main, id: 'x', prices: { '*': { input: 1 } } }],
    ['colour', { ...main, id: 'x', colour: 'red' }],
  ])('is refused by the name of its field (%s), and its key is not quoted', async (field, body) => {
    const answer = await call('providers', body)
    expect(verdict(answer)).toEqual([400, 'invalid_request', field])
    expect(JSON.stringify(answer.body)).not.toContain(KEY)
    expect(await findProvider(router.deps.store.db, 'acme', 'x')).toBeUndefined()
  })

  it('may blank a header that the gateway would send', async () => {
    expect((await call('providers', { ...main, id: 'blank', env: { ANTHROPIC_API_KEY: '' } })).status).toBe(201)
  })
})

it('the key is in no answer, no audit row and no file in the clear', async () => {
  const all = [await call('providers'), await call('providers/main'), await call('audit?limit=100')]
  for (const { body } of all) expect(JSON.stringify(body)).not.toContain(KEY)
  const [file] = await router.deps.store.db.all<{ file: string }>("SELECT file FROM pragma_database_list WHERE name = 'main'")
  const dir = dirname(Array.isArray(file) ? String(file[0]) : file!.file)
  for (const name of await readdir(dir)) expect(await readFile(join(dir, name), 'latin1'), name).not.toContain(KEY)
})

describe('the prices of a tenant that has a budget', () => {
  it('are set by an operator, as they are what the budget is charged by', async () => {
    const operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    const as = (token: string, path: string, method: string, body: unknown) => router.call(`/admin/v1/${path}`, { token, method, body })
    const free = { prices: { '*': { input: 0, output: 0 } } }
    await call('providers', { ...main, id: 'priced', prices: { '*': { input: 5, output: 9 } } })
    await as(operator, 'limits?tenant=acme', 'PUT', { budget: { run_usd: 1 } })
    expect((await call('providers/priced', free, 'PATCH')).status).toBe(200)
    await as(operator, 'limits?tenant=acme', 'PUT', { budget: { day_usd: 5 } })
    expect((await as(operator, 'providers/priced?tenant=acme', 'PATCH', { prices: { '*': { input: 5, output: 9 } } })).status).toBe(200)
    for (const prices of [free.prices, null]) {
      expect(verdict(await call('providers/priced', { prices }, 'PATCH'))).toEqual([403, 'forbidden', 'prices'])
    }
    expect(verdict(await call('providers', { ...main, ...free, id: 'gratis' }))).toEqual([403, 'forbidden', 'prices'])
    expect((await call('providers/priced', { weight: 2, prices: { '*': { input: 5, output: 9 } } }, 'PATCH')).status).toBe(200)
    await as(operator, 'limits?tenant=acme', 'PUT', {})
    expect((await call('providers/priced', free, 'PATCH')).status).toBe(200)
  })
})
