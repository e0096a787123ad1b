import { eq } from 'drizzle-orm'
import { beforeEach, describe, expect, it } from 'vitest'
import { audit, credentials, signingKeys } from '../../drizzle/schema.ts'
import { APP_ROUTE, identityRouter, RUNNER_ROUTE, UPGRADE, type Answer, type IdentityRouter } from '../../test/support/identity-router.ts'
import { mint } from '../guard/tokens.ts'
import { insertRunner } from '../store/runners.ts'

let router: IdentityRouter
let operator: string
let acme: string
beforeEach(async () => {
  router = await identityRouter()
  operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
  acme = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
  return () => router.close()
})

const call = (token: string, path: string, body?: unknown, method?: string): Promise<Answer> =>
  router.call(`/admin/v1/${path}`, { token, body, ...(method === undefined ? {} : { method }) })
const remove = (token: string, path: string) => call(token, path, undefined, 'DELETE')
const app = async (token: string) => (await router.call(APP_ROUTE, { token })).status
const dataOf = ({ body }: Answer) => body['data'] as Record<string, unknown>[]
const verdict = ({ status, body }: Answer) => [status, body['code']]
const newestAudit = async () => (await router.deps.store.db.select().from(audit)).toSorted((a, b) => a.id.localeCompare(b.id)).at(-1)

describe('tokens', () => {
  it('are listed newest first, in pages, without the token', async () => {
    const made = []
    for (const subject of ['a', 'b', 'c']) made.push((await call(acme, 'tokens', { kind: 'app', subject })).body)
    const first = await call(acme, 'tokens?limit=2')
    const second = await call(acme, `tokens?limit=2&after=${String(first.body['next'])}`)
    expect([...dataOf(first), ...dataOf(second)].map(({ subject }) => subject)).toEqual(['c', 'b', 'a', 'test'])
    expect(second.body['next']).toBeNull()
    for (const { token } of made) expect(JSON.stringify(first.body)).not.toContain(String(token).split('.')[2])
  })

  it('of another tenant are not there, but for an operator who names it', async () => {
    const { jti } = await router.mint({ tenant: 'blue' })
    expect(verdict(await call(acme, `tokens/${jti}`))).toEqual([404, 'not_found'])
    expect(verdict(await remove(acme, `tokens/${jti}`))).toEqual([404, 'not_found'])
    expect(verdict(await call(acme, 'tokens?tenant=blue'))).toEqual([403, 'forbidden'])
    expect(verdict(await call(acme, 'tokens/revoke', { all: true, tenant: 'blue' }))).toEqual([403, 'forbidden'])
    expect(dataOf(await call(operator, 'tokens?tenant=blue')).map((token) => token['jti'])).toEqual([jti])
    expect((await call(operator, `tokens/${jti}`)).body).toMatchObject({ jti, tenant: 'blue' })
  })

  it('are refused from the next request on where they were revoked, and the record says who did it', async () => {
    const { token, jti } = await router.mint()
    expect(await app(token)).toBe(200)
    expect((await remove(acme, `tokens/${jti}`)).body).toMatchObject({ jti, revoked_at: expect.any(String) })
    expect(await app(token)).toBe(401)
    expect(await newestAudit()).toMatchObject({ tenant: 'acme', actor: 'test', action: 'token.revoke', target: `token/${jti}` })
    expect((await remove(acme, `tokens/${jti}`)).status).toBe(200)
    expect((await call(acme, `tokens/${jti}`)).body['revoked_at']).not.toBeNull()
  })

  it('of a family end together, and no others', async () => {
    const inFamily = [await router.mint({ family: 'ci' }), await router.mint({ family: 'ci' })]
    const others = [await router.mint({ family: 'web' }), await router.mint(), await router.mint({ family: 'ci', tenant: 'blue' })]
    for (const { token } of [...inFamily, ...others]) expect(await app(token)).toBe(200)
    expect(dataOf(await call(acme, 'tokens?family=ci'))).toHaveLength(2)
    expect((await call(acme, 'tokens/revoke', { family: 'ci' })).body).toEqual({ revoked: 2 })
    for (const { token } of inFamily) expect(await app(token)).toBe(401)
    for (const { token } of others) expect(await app(token)).toBe(200)
    expect(verdict(await call(acme, 'tokens/revoke', {}))).toEqual([400, 'invalid_request'])
    expect(verdict(await call(acme, 'tokens/revoke', { all: true, family: 'ci' }))).toEqual([400, 'invalid_request'])
  })

  it('of a tenant end together with its keys and the tokens that nobody has a record of; new ones are good at once', async () => {
    const { token } = await router.mint()
    const claims = { kind: 'app', tenant: 'acme', subject: 'x', jti: 'unrecorded', scopes: ['runs:read'], ttlS: 60 } as const
    const { token: unrecorded } = await mint(router.deps.keys, claims, router.clock.now)
    await call(acme, 'credentials', { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old' })
    for (const good of [token, unrecorded, 'ccs_ak_0123456789']) expect(await app(good)).toBe(200)
    router.clock.now += 400
    expect((await call(operator, 'tokens/revoke', { all: true, tenant: 'acme' })).body).toEqual({ revoked: 2 })
    for (const gone of [token, unrecorded, acme, 'ccs_ak_0123456789']) expect(await app(gone)).toBe(401)
    router.clock.now += 1
    expect(await app((await router.mint()).token)).toBe(200)
    expect(await app(operator)).toBe(200)
  })

  it('carry limits, of apps only, and no more of them than a header holds', async () => {
    const limits = { pools: ['gpu'], models: ['opus'], permission_modes: ['plan'], day_usd: 2 }
    const { body } = await call(acme, 'tokens', { kind: 'app', limits })
    expect((await call(acme, `tokens/${String(body['jti'])}`)).body).toMatchObject({ limits })
    expect((await call(acme, 'tokens', { kind: 'admin', limits })).body).toMatchObject({ status: 400, field: 'limits' })
    expect((await call(acme, 'tokens', { kind: 'app', limits: { model: ['opus'] } })).body).toMatchObject({ status: 400, field: 'limits.model' })
    const models = Array.from({ length: 64 }, (_, i) => `m${i}`.padEnd(128, 'x'))
    expect((await call(acme, 'tokens', { kind: 'app', limits: { models } })).body).toMatchObject({ status: 400, field: 'limits' })
  })
})

describe('signing keys', () => {
  const jwks = async () => ((await router.call('/.well-known/jwks.json')).body['keys'] as { kid: string }[]).map(({ kid }) => kid)
  const rotate = async () => String((await call(operator, 'keys/rotate', undefined, 'POST')).body['kid'])
  const headerOf = (token: string) => JSON.parse(atob(token.split('.')[0]!)) as { kid: string }

  it('are two at most: what the one before has signed goes on, the third ends', async () => {
    const { token: first } = await router.mint()
    const { rootKid } = router.deps.keys
    const one = await rotate()
    const { token: second } = await router.mint()
    expect(headerOf(second).kid).toBe(one)
    expect(await jwks()).toEqual([one, rootKid])
    expect([await app(first), await app(second)]).toEqual([200, 200])
    router.clock.now += 1
    const admin = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    const two = await rotate()
    expect(await jwks()).toEqual([two, one])
    expect([await app(first), await app(second)]).toEqual([401, 200])
    expect((await call(operator, 'keys')).status).toBe(401)
    const listed = dataOf(await call(admin, 'keys'))
    expect(listed).toMatchObject([
      { kid: two, state: 'signing' },
      { kid: one, state: 'verifying' },
      { kid: rootKid, state: 'retired', created_at: null },
    ])
    const page = await call(admin, 'keys?limit=1')
    expect(dataOf(await call(admin, `keys?limit=2&after=${String(page.body['next'])}`)).map(({ kid }) => kid)).toEqual([one, rootKid])
  })

  it('are two at most when several admins rotate at once, and one of them stays when both are retired at once', async () => {
    await Promise.all([rotate(), rotate(), rotate()])
    const admin = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    const live = await jwks()
    expect(live).toHaveLength(2)
    const answers = await Promise.all(live.map((kid) => remove(admin, `keys/${kid}`)))
    // The other one comes too late: for the key, or because it was the one that signed his token.
    expect(answers.map(({ status }) => status).filter((status) => status === 200)).toHaveLength(1)
    expect(await jwks()).toHaveLength(1)
  })

  it('are found by a replica that has not heard of them, and the private halves are sealed', async () => {
    await rotate()
    const { token } = await router.mint()
    const replica = router.replica()
    expect((await replica.call(APP_ROUTE, { token })).status).toBe(200)
    const [row] = await router.deps.store.db.select().from(signingKeys).where(eq(signingKeys.kid, headerOf(token).kid))
    expect(row?.sealed).toMatch(/^ey/)
    expect(JSON.stringify(row)).not.toContain('"d"')
  })

  it('end their tokens everywhere when they are retired, but the last one stays', async () => {
    const { token } = await router.mint()
    const replica = router.replica()
    const { rootKid } = router.deps.keys
    expect(verdict(await remove(operator, `keys/${rootKid}`))).toEqual([409, 'conflict'])
    const fresh = await rotate()
    const admin = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    expect((await replica.call(APP_ROUTE, { token })).status).toBe(200)
    expect((await remove(admin, `keys/${rootKid}`)).body).toMatchObject({ kid: rootKid, state: 'retired' })
    expect(await app(token)).toBe(401)
    router.clock.now += 2_000
    expect((await replica.call(APP_ROUTE, { token })).body).toMatchObject({ status: 401 })
    expect(await jwks()).toEqual([fresh])
    expect(verdict(await remove(admin, `keys/${fresh}`))).toEqual([409, 'conflict'])
    expect(verdict(await remove(admin, 'keys/nothing'))).toEqual([404, 'not_found'])
  })

  it('go on signing with the older one when the newest is retired', async () => {
    const { rootKid } = router.deps.keys
    const fresh = await rotate()
    expect((await remove(operator, `keys/${fresh}`)).status).toBe(200)
    expect(headerOf((await router.mint()).token).kid).toBe(rootKid)
  })

  it('outlive a rotation for the tokens of runners', async () => {
    await insertRunner(router.deps.store.db, { id: 'rnr_1', tenant: 'acme', pool: 'gpu', name: 'a', labels: {}, signingJwk: {}, sealingJwk: {}, createdAt: 0 })
    const wish = { kind: 'runner', tenant: 'acme', subject: 'rnr_1', jti: 'j', scopes: [], pool: 'gpu', ttlS: 900 } as const
    const { token } = await mint(router.deps.keys, wish, router.clock.now)
    await rotate()
    expect((await router.call(RUNNER_ROUTE, { token, headers: UPGRADE })).status).toBe(200)
  })

  it('are for operators', async () => {
    for (const [path, method] of [['keys', 'GET'], ['keys/rotate', 'POST'], [`keys/${router.deps.keys.rootKid}`, 'DELETE']] as const) {
      expect(verdict(await call(acme, path, undefined, method))).toEqual([403, 'forbidden'])
    }
  })
})

describe('keys and passwords of an older server', () => {
  const basic = (pair: string) => ({ authorization: `Basic ${btoa(pair)}` })
  const withHeaders = async (headers: Record<string, string>, path = APP_ROUTE) => (await router.call(path, { headers })).status

  it('open app routes by the header that their clients send, with the scopes that they were given', async () => {
    await call(acme, 'credentials', { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old-app', scopes: ['runs:read'] })
    await call(acme, 'credentials', { kind: 'basic', user: 'ann', password: 'correct horse', subject: 'ann' })
    for (const headers of [{ authorization: 'Bearer ccs_ak_0123456789' }, { 'x-api-key': 'ccs_ak_0123456789' }, basic('ann:correct horse')]) {
      expect(await withHeaders(headers)).toBe(200)
      expect(await withHeaders(headers, '/admin/v1/tokens')).toBe(403)
    }
    expect((await router.call('/v1/runs', { token: 'ccs_ak_0123456789', body: { prompt: 'x' } })).body).toMatchObject({ status: 403, scope: 'runs:write' })
    for (const headers of [{ 'x-api-key': 'ccs_ak_0123456788' }, basic('bob:correct horse'), basic('ann:correct horsE'), { 'x-api-key': 'correct horse' }, { 'x-api-key': 'ann:correct' }]) {
      expect(await withHeaders(headers)).toBe(401)
    }
  })

  it('are kept as a hash and shown without a secret', async () => {
    const { body } = await call(acme, 'credentials', { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old-app' })
    const rows = await router.deps.store.db.select().from(credentials)
    const records = await router.deps.store.db.select().from(audit)
    for (const shown of [body, (await call(acme, 'credentials')).body, rows, records]) expect(JSON.stringify(shown)).not.toContain('0123456789')
    expect(JSON.stringify([body, records])).not.toContain(rows[0]!.hash)
    expect(await newestAudit()).toMatchObject({ action: 'credential.create', target: `credential/${String(body['id'])}` })
  })

  it('end at once when they are deleted, and are there once', async () => {
    const wish = { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old-app' }
    const { body } = await call(acme, 'credentials', wish)
    expect(verdict(await call(operator, 'credentials', wish))).toEqual([409, 'conflict'])
    expect(await withHeaders({ 'x-api-key': wish.secret })).toBe(200)
    const blue = (await router.mint({ kind: 'admin', tenant: 'blue' })).token
    expect((await remove(blue, `credentials/${String(body['id'])}`)).status).toBe(404)
    expect((await remove(acme, `credentials/${String(body['id'])}`)).status).toBe(204)
    expect(await withHeaders({ 'x-api-key': wish.secret })).toBe(401)
    expect((await call(acme, 'credentials', wish)).status).toBe(201)
    expect(await withHeaders({ 'x-api-key': wish.secret })).toBe(200)
  })

  it.each<[string, object]>([
    ['secret', { kind: 'key', secret: 'short', subject: 'a' }],
    ['secret', { kind: 'key', secret: 'with spaces in it', subject: 'a' }],
    ['secret', { kind: 'key', secret: 'eyJhbGciOiJub25lIn0.e30.', subject: 'a' }],
    ['user', { kind: 'basic', user: 'a:b', password: 'long enough', subject: 'a' }],
    ['password', { kind: 'basic', user: 'a', password: 'short', subject: 'a' }],
    ['scopes', { kind: 'key', secret: 'long-enough', subject: 'a', scopes: ['admin'] }],
    ['subject', { kind: 'key', secret: 'long-enough' }],
  ])('name %s when it will not do: %j', async (field, body) => {
    const answer = await call(acme, 'credentials', body)
    expect([answer.status, String(answer.body['field']).split('.')[0]]).toEqual([400, field])
  })

  it('can be guessed at a bounded rate, which holds up nobody who was right once', async () => {
    await call(acme, 'credentials', { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old-app' })
    expect(await withHeaders({ 'x-api-key': 'ccs_ak_0123456789' })).toBe(200)
    const answers = new Set<number>()
    for (let i = 0; i < 250; i++) answers.add(await withHeaders({ 'x-api-key': `guess-number-${i}` }))
    expect([...answers]).toEqual([401, 429])
    router.clock.now += 1
    expect(await withHeaders({ 'x-api-key': 'guess-number-x' })).toBe(429)
    router.deps.identity.registry.changed()
    expect(await withHeaders({ 'x-api-key': 'ccs_ak_0123456789' })).toBe(200)
    router.clock.now += 1_000
    expect(await withHeaders({ 'x-api-key': 'guess-number-y' })).toBe(401)
  })
})

describe('a disabled tenant', () => {
  it('lets nobody in, whatever they present, and is as it was when it is enabled', async () => {
    const { token } = await router.mint()
    await call(acme, 'credentials', { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old-app' })
    await insertRunner(router.deps.store.db, { id: 'rnr_1', tenant: 'acme', pool: 'gpu', name: 'a', labels: {}, signingJwk: {}, sealingJwk: {}, createdAt: 0 })
    const wish = { kind: 'runner', tenant: 'acme', subject: 'rnr_1', jti: 'j', scopes: [], pool: 'gpu', ttlS: 900 } as const
    const { token: runner } = await mint(router.deps.keys, wish, router.clock.now)
    const statuses = async () => [
      await app(token),
      await app('ccs_ak_0123456789'),
      (await call(acme, 'tokens')).status,
      (await router.call(RUNNER_ROUTE, { token: runner, headers: UPGRADE })).status,
    ]
    expect(await statuses()).toEqual([200, 200, 200, 200])
    await call(operator, 'tenants/acme', { disabled: true }, 'PATCH')
    expect(await statuses()).toEqual([403, 403, 403, 403])
    expect(await app(operator)).toBe(200)
    await call(operator, 'tenants/acme', { disabled: false }, 'PATCH')
    expect(await statuses()).toEqual([200, 200, 200, 200])
  })
})
