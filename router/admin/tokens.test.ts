import { eq } from 'drizzle-orm'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tenants, tokens } from '../../drizzle/schema.ts'
import { APP_ROUTE, identityRouter, type Answer, type IdentityRouter } from '../../test/support/identity-router.ts'

let router: IdentityRouter
let admin: string
let operator: string
beforeAll(async () => {
  router = await identityRouter()
  admin = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
  operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
})
afterAll(() => router.close())

const make = (body: unknown, token = admin): Promise<Answer> => router.call('/admin/v1/tokens', { token, body })

describe('POST /admin/v1/tokens', () => {
  it('makes an app token with the usual scopes, for 30 days, in the tenant of the admin', async () => {
    const { status, body, headers } = await make({ kind: 'app' })
    expect(status).toBe(201)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body['expires_at']).toBe(new Date(router.clock.now + 30 * 86_400_000).toISOString())
    expect(decodeJwt(String(body['token']))).toMatchObject({
      tenant: 'acme',
      sub: 'app',
      jti: body['jti'],
      scope: 'runs:write runs:read sessions:read sessions:write stats:read config:read',
    })
    expect((await router.call(APP_ROUTE, { token: String(body['token']) })).status).toBe(200)
  })

  it('makes a narrower token for another tenant, which exists from then on, when an operator asks', async () => {
    const wish = { kind: 'app', scopes: ['runs:read'], subject: 'ci@example.com', tenant: 'blue', ttl_s: 60 }
    expect((await make(wish)).body).toMatchObject({ status: 403, code: 'forbidden', field: 'tenant' })
    const { body } = await make(wish, operator)
    const [row] = await router.deps.store.db
      .select()
      .from(tokens)
      .where(eq(tokens.jti, String(body['jti'])))
    expect(row).toMatchObject({
      tenant: 'blue',
      kind: 'app',
      subject: 'ci@example.com',
      scopes: 'runs:read',
      expiresAt: router.clock.now + 60_000,
    })
    expect(await router.deps.store.db.select().from(tenants).where(eq(tenants.id, 'blue'))).toHaveLength(1)
  })

  it('makes an admin token that makes tokens', async () => {
    const { body } = await make({ kind: 'admin' })
    expect((await router.call('/admin/v1/tokens', { token: String(body['token']), body: { kind: 'app' } })).status).toBe(201)
  })

  it.each<[string, unknown]>([
    ['kind', {}],
    ['kind', { kind: 'runner' }],
    ['kind', { kind: 'superuser' }],
    ['scopes', { kind: 'admin', scopes: ['runs:read'] }],
    ['scopes', { kind: 'app', scopes: [] }],
    ['scopes', { kind: 'app', scopes: ['admin'] }],
    ['scopes', { kind: 'app', scopes: ['*'] }],
    ['scopes', { kind: 'app', scopes: 'runs:read' }],
    ['ttl_s', { kind: 'app', ttl_s: 0 }],
    ['ttl_s', { kind: 'app', ttl_s: 31_536_001 }],
    ['ttl_s', { kind: 'app', ttl_s: 1.5 }],
    ['ttl_s', { kind: 'app', ttl_s: '60' }],
    ['tenant', { kind: 'app', tenant: '../x' }],
    ['tenant', { kind: 'app', tenant: 'Acme' }],
    ['subject', { kind: 'app', subject: 'a b' }],
    ['subject', { kind: 'app', subject: 'file' }],
    ['subject', { kind: 'app', subject: '' }],
    ['jti', { kind: 'app', jti: 'mine' }],
  ])('%s: %j is refused by name', async (field, body) => {
    const answer = await make(body)
    expect({ status: answer.status, code: answer.body['code'] }).toEqual({ status: 400, code: 'invalid_request' })
    expect(String(answer.body['field'])).toMatch(new RegExp(`^${field}`))
  })

  it('refuses what is no JSON, and what is no JSON object', async () => {
    expect((await make('{"kind":')).body['code']).toBe('bad_json')
    for (const body of ['[]', 'null', '"app"', '7']) expect((await make(body)).status).toBe(400)
  })

  it('asks who is calling before it reads the body', async () => {
    expect((await router.call('/admin/v1/tokens', { body: '{"kind":' })).status).toBe(401)
  })
})

it('the OpenAPI document names the routes of identity', async () => {
  const { status, body } = await router.call('/openapi.json')
  expect(status).toBe(200)
  const paths = Object.keys(Object(body['paths']))
  for (const path of [
    '/admin/v1/tokens',
    '/admin/v1/enrolment-tokens',
    '/v1/runners/enroll',
    '/v1/runners/token',
    '/.well-known/jwks.json',
  ])
    expect(paths).toContain(path)
})
