import { generateKeyPair, SignJWT, UnsecuredJWT, type JWTPayload } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { APP_ROUTE, identityRouter, RUNNER_ROUTE, UPGRADE, type Answer, type IdentityRouter } from '../../test/support/identity-router.ts'
import { oidcIssuer, scriptedIssuer, type OidcIssuer, type ScriptedIssuer } from '../../test/support/issuers.ts'

const AUDIENCE = 'https://runs.example.com'

let router: IdentityRouter
let operator: string
beforeEach(async () => {
  router = await identityRouter()
  router.clock.now = Date.now()
  operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
})
afterEach(() => router.close())

const admin = (path: string, body?: unknown, method?: string): Promise<Answer> =>
  router.call(`/admin/v1/${path}`, { token: operator, body, ...(method === undefined ? {} : { method }) })
const trust = (url: string, mapping: object, more: object = {}) => admin('issuers', { id: 'ci', url, audience: AUDIENCE, tenant: 'acme', mapping, ...more })
const app = (token: string) => router.call(APP_ROUTE, { token })
const verdict = ({ status, body }: Answer) => [status, body['code']]

describe('a real OpenID Connect provider', () => {
  let provider: OidcIssuer
  beforeAll(async () => void (provider = await oidcIssuer({ repository: 'acme/app', groups: ['dev', 'ops'] })))
  afterAll(() => provider.close())

  it('is trusted by its URL: what it says of somebody decides what he may do', async () => {
    const token = await provider.token(AUDIENCE)
    expect(verdict(await app(token))).toEqual([401, 'unauthenticated'])
    const mapping = {
      require: [{ claim: 'repository', is: ['acme/app', 'acme/lib'] }],
      scopes_from: { claim: 'groups', table: { ops: ['runs:read'], boss: ['runs:bypass'] } },
    }
    expect((await trust(provider.url, mapping)).status).toBe(201)
    expect((await app(token)).status).toBe(200)
    expect(await router.call('/v1/runs', { token, body: { prompt: 'x' } })).toMatchObject({ status: 403, body: { scope: 'runs:write' } })
    expect((await router.call('/admin/v1/tokens', { token })).status).toBe(403)
    expect((await router.call(RUNNER_ROUTE, { token, headers: UPGRADE })).status).toBe(403)
    expect(verdict(await app(await provider.token('https://elsewhere.example.com')))).toEqual([401, 'unauthenticated'])
  })

  it('makes nobody of whom it does not say what is required', async () => {
    const token = await provider.token(AUDIENCE)
    await trust(provider.url, { require: [{ claim: 'repository', is: 'acme/other' }], scopes: ['runs:read'] })
    expect(verdict(await app(token))).toEqual([401, 'unauthenticated'])
    await admin('issuers/ci', { mapping: { require: [{ claim: 'groups', is: 'dev' }], scopes: ['runs:read'] } }, 'PATCH')
    expect((await app(token)).status).toBe(200)
    await admin('issuers/ci', { enabled: false }, 'PATCH')
    expect((await app(token)).status).toBe(401)
    await admin('issuers/ci', { enabled: true }, 'PATCH')
    expect((await app(token)).status).toBe(200)
    expect((await admin('issuers/ci', undefined, 'DELETE')).status).toBe(204)
    expect((await app(token)).status).toBe(401)
  })

  it('speaks for one tenant, which can end all of its tokens', async () => {
    const token = await provider.token(AUDIENCE)
    await trust(provider.url, { require: [{ claim: 'sub', is: 'ci' }], scopes: ['runs:read'] })
    expect((await app(token)).status).toBe(200)
    router.clock.now += 2_000
    expect((await admin('tokens/revoke', { tenant: 'acme', all: true })).status).toBe(200)
    expect((await app(token)).status).toBe(401)
  })
})

describe('an issuer', () => {
  let issuer: ScriptedIssuer
  beforeEach(async () => void (issuer = await scriptedIssuer()))
  afterEach(() => issuer.close())

  const nowS = () => Math.floor(router.clock.now / 1_000)
  const claims = (more: JWTPayload = {}): JWTPayload => ({ aud: AUDIENCE, sub: 'repo:acme/app', iat: nowS(), exp: nowS() + 600, ...more })
  const mapping = { require: [{ claim: 'sub', is: 'repo:acme/app' }], scopes: ['runs:read'] }
  const trusted = () => trust(issuer.url, mapping)

  it('is asked once for many tokens, and not at all for one that could not be good', async () => {
    await trusted()
    const bad: [string, string][] = [
      ['another audience', await issuer.sign(claims({ aud: 'other' }))],
      ['expired', await issuer.sign(claims({ exp: nowS() - 31 }))],
      ['without an end', await issuer.sign(claims({ exp: undefined }))],
      ['alg none', new UnsecuredJWT({ iss: issuer.url, ...claims() }).encode()],
      ['a shared secret', await new SignJWT({ iss: issuer.url, ...claims() }).setProtectedHeader({ alg: 'HS256' }).sign(new Uint8Array(32))],
      ['another issuer', await issuer.sign(claims({ iss: `${issuer.url}/` }))],
    ]
    for (const [what, token] of bad) expect(verdict(await app(token)), what).toEqual([401, 'unauthenticated'])
    expect(issuer.asked).toEqual([])
    for (let i = 0; i < 3; i++) expect((await app(await issuer.sign(claims({ jti: String(i) })))).status).toBe(200)
    expect(issuer.asked).toEqual(['/.well-known/openid-configuration', '/keys'])
  })

  it('is asked once when many come at the same time', async () => {
    await trusted()
    const tokens = await Promise.all(Array.from({ length: 20 }, () => issuer.sign(claims())))
    expect(new Set((await Promise.all(tokens.map(app))).map(({ status }) => status))).toEqual(new Set([200]))
    expect(issuer.asked).toHaveLength(2)
  })

  it('cannot say that somebody is called what no database can keep', async () => {
    await trust(issuer.url, { subject: 'name', require: [{ claim: 'sub', is: 'repo:acme/app' }], scopes: ['runs:write', 'runs:read'], limits: { budget_usd: 5 } })
    await admin('tenants/acme', { settings: { limits: { budget: { day_usd: 100 } } } }, 'PATCH')
    const post = async (name: string) => verdict(await router.call('/v1/runs', { token: await issuer.sign(claims({ name })), body: { prompt: 'x' } }))
    // The line of this router takes nobody.
    expect(await post('b\u00f6b')).toEqual([429, 'busy'])
    for (const name of ['bob\ud800', '\udc00', 'bob\0']) expect(await post(name)).toEqual([401, 'unauthenticated'])
  })

  it('that nobody has configured is never asked, and neither is what a header names', async () => {
    const stranger = await scriptedIssuer()
    await trusted()
    const attacks = [
      await stranger.sign(claims()),
      await stranger.sign(claims({ iss: issuer.url }), { jku: `${stranger.url}/keys` }),
      await stranger.sign(claims({ iss: issuer.url }), { x5u: `${stranger.url}/cert` }),
      await stranger.sign(claims({ iss: issuer.url }), { kid: `${stranger.url}/keys` }),
    ]
    for (const token of attacks) expect((await app(token)).status).toBe(401)
    expect(stranger.asked).toEqual([])
    await stranger.close()
  })

  it('may change its keys: a new one is looked for at most every 30 s', async () => {
    await trusted()
    expect((await app(await issuer.sign(claims()))).status).toBe(200)
    await issuer.rotate()
    const token = await issuer.sign(claims())
    expect((await app(token)).status).toBe(401)
    router.clock.now += 29_000
    expect((await app(token)).status).toBe(401)
    expect(issuer.asked).toHaveLength(2)
    router.clock.now += 1_000
    expect((await app(token)).status).toBe(200)
    expect(issuer.asked).toHaveLength(4)
    for (let i = 0; i < 20; i++) expect((await app(await issuer.sign(claims(), { kid: `made-up-${i}` }))).status).toBe(401)
    expect(issuer.asked).toHaveLength(4)
  })

  it('whose key is taken away is felt within ten minutes', async () => {
    await trusted()
    const token = await issuer.sign(claims({ exp: nowS() + 3_600 }))
    expect((await app(token)).status).toBe(200)
    await issuer.rotate(true)
    router.clock.now += 10 * 60_000 + 1
    await app(token)
    await router.settled()
    router.clock.now += 1
    expect((await app(token)).status).toBe(401)
  })

  it('that is down ends nothing: its known keys go on working', async () => {
    await trusted()
    const token = await issuer.sign(claims({ exp: nowS() + 7_200 }))
    expect((await app(token)).status).toBe(200)
    issuer.answers.set('/keys', { status: 500 })
    router.clock.now += 3_600_000
    expect((await app(token)).status).toBe(200)
    await router.settled()
    expect((await app(token)).status).toBe(200)
  })

  it('that is down from the start is a 503 that says when to come again, and is not asked meanwhile', async () => {
    await trusted()
    issuer.answers.set('/.well-known/openid-configuration', { status: 503 })
    const token = await issuer.sign(claims())
    const answer = await app(token)
    expect([...verdict(answer), answer.headers.get('retry-after')]).toEqual([503, 'issuer', '30'])
    issuer.answers.clear()
    expect((await app(token)).status).toBe(503)
    expect(issuer.asked).toHaveLength(1)
    router.clock.now += 30_000
    expect((await app(token)).status).toBe(200)
  })

  it.each<[string, string, { status?: number; headers?: Record<string, string>; body?: string }]>([
    ['of another issuer', '/.well-known/openid-configuration', { body: '{"issuer":"https://evil.example","jwks_uri":"https://evil.example/keys"}' }],
    ['no JSON', '/.well-known/openid-configuration', { body: '<html>' }],
    ['a redirect', '/keys', { status: 302, headers: { location: '/elsewhere' } }],
    ['a flood', '/keys', { body: JSON.stringify({ keys: [], padding: 'x'.repeat(300_000) }) }],
    ['no key set', '/keys', { body: '[]' }],
  ])('whose answer is %s has no keys', async (_what, path, answer) => {
    await trusted()
    issuer.answers.set(path, answer)
    expect(verdict(await app(await issuer.sign(claims())))).toEqual([503, 'issuer'])
    expect(issuer.asked).not.toContain('/elsewhere')
  })

  it('does not lead to its neighbour on this machine by what it calls its keys', async () => {
    await trusted()
    for (const jwksUri of ['file:///etc/passwd', 'http://169.254.169.254/keys', 'http://example.com/keys', 'https://user:pass@example.com/keys']) {
      issuer.answers.set('/.well-known/openid-configuration', { body: JSON.stringify({ issuer: issuer.url, jwks_uri: jwksUri }) })
      expect((await app(await issuer.sign(claims()))).status).toBe(503)
      router.clock.now += 30_000
    }
    expect(issuer.asked).not.toContain('/keys')
  })

  it('is believed only what it signed itself, of now, and of somebody', async () => {
    await trusted()
    const { privateKey } = await generateKeyPair('ES256')
    const { kid } = JSON.parse(atob((await issuer.sign(claims())).split('.')[0]!)) as { kid: string }
    const bad: [string, string][] = [
      ['their key under its id', await new SignJWT({ iss: issuer.url, ...claims() }).setProtectedHeader({ alg: 'ES256', kid }).sign(privateKey)],
      ['a subject that is none', await issuer.sign(claims({ sub: '' }))],
      ['somebody else', await issuer.sign(claims({ sub: 'repo:acme/app2' }))],
      ['no time of issue', await issuer.sign(claims({ iat: undefined }))],
      ['from the future', await issuer.sign(claims({ iat: nowS() + 31 }))],
      ['not yet', await issuer.sign(claims({ nbf: nowS() + 31 }))],
    ]
    for (const [what, token] of bad) expect(verdict(await app(token)), what).toEqual([401, 'unauthenticated'])
    expect((await app(await issuer.sign(claims({ iat: nowS() + 29, exp: nowS() - 29 })))).status).toBe(200)
  })

  it.each(['RS256', 'PS256', 'EdDSA'])('may sign with %s', async (alg) => {
    const other = await scriptedIssuer(alg)
    await trust(other.url, mapping)
    expect((await app(await other.sign(claims()))).status).toBe(200)
    await other.close()
  })

  it.each(['ES384', 'RS512'])('may not sign with %s', async (alg) => {
    const other = await scriptedIssuer(alg)
    await trust(other.url, mapping)
    expect((await app(await other.sign(claims()))).status).toBe(401)
    await other.close()
  })

  it('cannot be meant twice by one token', async () => {
    await trusted()
    await admin('issuers', { id: 'second', url: issuer.url, audience: 'other', tenant: 'blue', mapping })
    expect((await app(await issuer.sign(claims({ aud: 'other' })))).status).toBe(200)
    expect((await app(await issuer.sign(claims({ aud: [AUDIENCE, 'other'] })))).status).toBe(401)
    expect((await app(await issuer.sign(claims({ aud: [AUDIENCE, 'somewhere-else'] })))).status).toBe(200)
  })
})

describe('who is trusted', () => {
  const mapping = { require: [{ claim: 'sub', is: 'x' }] }

  it('is for operators to say; the admins of its tenant see it and can end it', async () => {
    await trust('https://ci.example.com', mapping)
    const acme = (await router.mint({ kind: 'admin', tenant: 'acme' })).token
    const blue = (await router.mint({ kind: 'admin', tenant: 'blue' })).token
    const call = (token: string, path: string, body?: unknown, method?: string) => router.call(`/admin/v1/${path}`, { token, body, ...(method === undefined ? {} : { method }) })
    expect(verdict(await call(acme, 'issuers', { id: 'b', url: 'https://b.example.com', audience: 'a', mapping }))).toEqual([403, 'forbidden'])
    expect(verdict(await call(acme, 'issuers/ci', { enabled: false }, 'PATCH'))).toEqual([403, 'forbidden'])
    expect((await call(acme, 'issuers')).body['data']).toMatchObject([{ id: 'ci', tenant: 'acme', mapping: { subject: 'sub', scopes: [] } }])
    for (const method of ['GET', 'DELETE']) expect((await call(blue, 'issuers/ci', undefined, method)).status).toBe(404)
    expect((await call(acme, 'issuers/ci', undefined, 'DELETE')).status).toBe(204)
  })

  it('is there once', async () => {
    expect((await trust('https://ci.example.com', mapping)).status).toBe(201)
    expect((await trust('https://ci2.example.com', mapping)).status).toBe(409)
    expect((await trust('https://ci.example.com', mapping, { id: 'other' })).status).toBe(409)
  })

  it.each<[string, object]>([
    ['url', { url: 'http://ci.example.com' }],
    ['url', { url: 'http://10.0.0.1' }],
    ['url', { url: 'https://ci.example.com?x=1' }],
    ['url', { url: 'https://user@ci.example.com' }],
    ['url', { url: 'file:///etc/passwd' }],
    ['url', { url: 'https://router.test', id: 'self' }],
    ['mapping', { mapping: { require: [] } }],
    ['mapping', { mapping: { scopes: ['runs:read'] } }],
    ['mapping', { mapping: { ...mapping, scopes: ['admin'] } }],
    ['mapping', { mapping: { ...mapping, kind: 'admin' } }],
    ['mapping', { mapping: { ...mapping, scopes_from: { claim: 'g', table: { ops: ['admin'] } } } }],
  ])('%s is named when it will not do: %j', async (field, body) => {
    const answer = await trust('https://ci.example.com', mapping, body)
    expect([answer.status, String(answer.body['field']).split('.')[0]]).toEqual([400, field])
  })
})
