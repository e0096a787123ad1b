import { eq } from 'drizzle-orm'
import { base64url, SignJWT, UnsecuredJWT, type JWTHeaderParameters, type JWTPayload } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { tokens } from '../../drizzle/schema.ts'
import type { Answer, IdentityRouter } from '../../test/support/identity-router.ts'
import { ADMIN_ROUTE, APP_ROUTE, identityRouter, RUNNER_ROUTE, UPGRADE } from '../../test/support/identity-router.ts'
import { insertRunner } from '../store/runners.ts'
import { generateSigningJwk, importKeys } from './keys.ts'
import { mint } from './tokens.ts'

let router: IdentityRouter
let nowS: number
beforeAll(async () => {
  router = await identityRouter()
  nowS = router.clock.now / 1000
})
afterAll(() => router.close())

const asApp = (token: string): Promise<Answer> => router.call(APP_ROUTE, { token })
const asAdmin = (token: string): Promise<Answer> => router.call(ADMIN_ROUTE, { token, body: {} })
const asRunner = (token: string): Promise<Answer> => router.call(RUNNER_ROUTE, { token, headers: UPGRADE })

const good = (): JWTPayload => ({
  iss: 'https://router.test',
  aud: 'runyard:app',
  sub: 'test',
  jti: crypto.randomUUID(),
  iat: nowS,
  exp: nowS + 60,
  tenant: 'acme',
  scope: 'runs:read',
})
const without = (claim: string): JWTPayload => {
  const { [claim]: _, ...rest } = good()
  return rest
}
const header = (): JWTHeaderParameters => ({ alg: 'EdDSA', typ: 'runyard-app+jwt', kid: router.deps.keys.rootKid })
/** Signed with the router's own key, as no attacker could: what remains is the judgement of the claims. */
const forge = (claims: JWTPayload, over: Partial<JWTHeaderParameters> = {}): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ ...header(), ...over }).sign(router.jwk)

/** What an app route says to a token, and whether it repeats any of it. */
async function verdict(token: string) {
  const { status, body, headers } = await asApp(token)
  const challenged = headers.get('www-authenticate')?.startsWith('Bearer')
  const leaks = JSON.stringify(body).includes(token.slice(0, 40))
  return { status, code: body['code'], detail: body['detail'], challenged, leaks }
}
const REFUSED = { status: 401, code: 'unauthenticated', challenged: true, leaks: false }

describe('which routes a token opens', () => {
  it('an app token opens app routes, and is refused by name on the others', async () => {
    const { token } = await router.mint()
    expect((await asApp(token)).status).toBe(200)
    expect(await asAdmin(token)).toMatchObject({
      status: 403,
      body: { code: 'forbidden', detail: expect.stringContaining('admin token') },
    })
    expect(await asRunner(token)).toMatchObject({
      status: 403,
      body: { code: 'forbidden', detail: expect.stringContaining('runner token') },
    })
  })

  it('an admin token opens admin and app routes', async () => {
    const { token } = await router.mint({ kind: 'admin' })
    expect((await asApp(token)).status).toBe(200)
    expect((await asAdmin(token)).status).toBe(201)
    expect((await asRunner(token)).status).toBe(403)
  })

  it('a runner token opens runner routes only', async () => {
    await insertRunner(router.deps.store.db, {
      id: 'rnr_1',
      tenant: 'acme',
      pool: 'gpu',
      name: 'a',
      labels: {},
      signingJwk: {},
      sealingJwk: {},
      createdAt: 0,
    })
    const wish = { kind: 'runner', tenant: 'acme', subject: 'rnr_1', jti: 'j', scopes: [], pool: 'gpu', ttlS: 900 } as const
    const { token } = await mint(router.deps.keys, wish, router.clock.now)
    expect((await asApp(token)).status).toBe(403)
    expect((await asAdmin(token)).status).toBe(403)
    expect(await asRunner(token)).toMatchObject({ status: 200, body: { runner: 'rnr_1', tenant: 'acme', pool: 'gpu' } })
    expect(await router.call(RUNNER_ROUTE, { token, headers: { ...UPGRADE, origin: 'http://localhost:8787' } })).toMatchObject({
      status: 403,
      body: { code: 'origin' },
    })
  })

  it('a runner token is dead when its runner is unknown or has moved', async () => {
    for (const [subject, tenant, pool] of [
      ['rnr_2', 'acme', 'gpu'],
      ['rnr_1', 'other', 'gpu'],
      ['rnr_1', 'acme', 'default'],
      ["rnr_1' OR '1'='1", 'acme', 'gpu'],
    ] as const) {
      const { token } = await mint(
        router.deps.keys,
        { kind: 'runner', tenant, subject, jti: 'j', scopes: [], pool, ttlS: 900 },
        router.clock.now,
      )
      expect((await asRunner(token)).status).toBe(401)
    }
  })

  it.each(['authorization: Bearer', 'x-api-key', 'Basic'])('a token is taken by %s', async (how) => {
    const { token } = await router.mint()
    const headers: Record<string, string> =
      how === 'Basic'
        ? { authorization: `Basic ${btoa(`me:${token}`)}` }
        : how === 'x-api-key'
          ? { 'x-api-key': token }
          : { authorization: `Bearer ${token}` }
    expect((await router.call(APP_ROUTE, { headers })).status).toBe(200)
  })

  it('no token is 401 with a challenge', async () => {
    const { status, headers } = await router.call(APP_ROUTE)
    expect(status).toBe(401)
    expect(headers.get('www-authenticate')).toMatch(/^Bearer/)
  })
})

describe('scopes', () => {
  it('a route that asks for a scope is closed to a token without it', async () => {
    const { token } = await router.mint({ scopes: ['runs:write', 'stats:read'] })
    expect(await asApp(token)).toMatchObject({ status: 403, body: { code: 'forbidden', scope: 'runs:read' } })
  })

  it.each(['*', 'runs:*', 'all', 'RUNS:READ', 'runs:read\truns:write', 'runs', '', 'runs:readx', '__proto__', 'admin'])(
    'the claim %j grants nothing on an app route',
    async (scope) => {
      expect((await asApp(await forge({ ...good(), scope }))).status).toBe(403)
    },
  )

  it('an unknown scope beside a known one does no harm', async () => {
    expect((await asApp(await forge({ ...good(), scope: 'future:thing runs:read *' }))).status).toBe(200)
  })

  it('an app token that claims admin is still an app token', async () => {
    expect((await asAdmin(await forge({ ...good(), scope: 'admin runs:read' }))).status).toBe(403)
  })
})

describe('a token that is not ours', () => {
  it('is refused when another key signed it, under our key id or its own', async () => {
    const jwk = await generateSigningJwk()
    const foreign = await importKeys(jwk, 'https://router.test')
    expect(await verdict(await foreign.sign('runyard-app+jwt', good()))).toMatchObject({
      ...REFUSED,
      detail: expect.stringMatching(/not signed by this router/),
    })
    expect(await verdict(await new SignJWT(good()).setProtectedHeader(header()).sign(jwk))).toMatchObject(REFUSED)
  })

  it('is refused without a key id', async () => {
    expect(
      await verdict(await new SignJWT(good()).setProtectedHeader({ alg: 'EdDSA', typ: 'runyard-app+jwt' }).sign(router.jwk)),
    ).toMatchObject(REFUSED)
  })

  it('is refused with alg none, in any spelling', async () => {
    expect(await verdict(new UnsecuredJWT(good()).encode())).toMatchObject(REFUSED)
    const payload = base64url.encode(JSON.stringify(good()))
    for (const alg of ['none', 'None', 'NONE', '', 'EdDSA']) {
      expect(await verdict(`${base64url.encode(JSON.stringify({ ...header(), alg }))}.${payload}.`)).toMatchObject(REFUSED)
    }
  })

  it('is refused with HS256 and our public key as the secret', async () => {
    const { x } = router.jwk
    for (const secret of [
      base64url.decode(x),
      new TextEncoder().encode(x),
      new TextEncoder().encode(JSON.stringify((await router.deps.keys.live())[0]?.jwks.keys[0])),
    ]) {
      expect(
        await verdict(await new SignJWT(good()).setProtectedHeader({ ...header(), alg: 'HS256' }).sign(secret)),
      ).toMatchObject(REFUSED)
    }
  })

  it('is refused when it brings its own key', async () => {
    const jwk = await generateSigningJwk()
    const { d: _, ...publicHalf } = jwk
    expect(await verdict(await new SignJWT(good()).setProtectedHeader({ ...header(), jwk: publicHalf }).sign(jwk))).toMatchObject(
      REFUSED,
    )
    expect(
      await verdict(
        await new SignJWT(good())
          .setProtectedHeader({ ...header(), jku: 'https://evil.example/jwks.json', kid: 'evil' })
          .sign(jwk),
      ),
    ).toMatchObject(REFUSED)
  })

  it('is refused when a bit of it was changed', async () => {
    const { token } = await router.mint()
    const [head = '', , signature = ''] = token.split('.')
    expect(
      await verdict(`${head}.${base64url.encode(JSON.stringify({ ...good(), tenant: 'other' }))}.${signature}`),
    ).toMatchObject(REFUSED)
    expect(
      await verdict(
        `${base64url.encode(JSON.stringify({ ...header(), typ: 'runyard-admin+jwt' }))}.${token.split('.').slice(1).join('.')}`,
      ),
    ).toMatchObject(REFUSED)
  })

  it.each(['a', 'a.b.c', '..', 'null', '{}', 'e30.e30.e30', "' OR 1=1 --", '../../etc/passwd', 'a.b.c.d.e'])(
    '%j is refused',
    async (token) => {
      expect((await router.call(APP_ROUTE, { headers: { 'x-api-key': token } })).status).toBe(401)
    },
  )

  it('is refused when it is larger than 8 KiB, whatever it holds', async () => {
    const token = await forge({ ...good(), padding: 'x'.repeat(8_192) })
    const { status, body } = await asApp(token)
    expect(status).toBe(401)
    expect(body['detail']).toMatch(/longer than 8192 bytes/)
  })
})

describe('claims', () => {
  it('the control: these claims are good', async () => {
    expect((await asApp(await forge(good()))).status).toBe(200)
  })

  it.each(['iss', 'aud', 'sub', 'jti', 'iat', 'exp', 'tenant', 'scope'])('a token without %s is refused', async (claim) => {
    expect(await verdict(await forge(without(claim)))).toMatchObject(REFUSED)
  })

  it.each<[string, () => JWTPayload]>([
    ['another issuer', () => ({ ...good(), iss: 'https://evil.test' })],
    ['the audience of another kind', () => ({ ...good(), aud: 'runyard:admin' })],
    ['an audience that only contains ours', () => ({ ...good(), aud: 'runyard:app2' })],
    ['an empty subject', () => ({ ...good(), sub: '' })],
    ['a tenant that is no name', () => ({ ...good(), tenant: "acme' OR '1'='1" })],
    ['a tenant that climbs', () => ({ ...good(), tenant: '../other' })],
    ['a scope that is a list', () => ({ ...good(), scope: ['runs:read'] })],
    ['an expiry that is text', () => Object.assign(good(), { exp: '9999999999' })],
    ['a pool, which only runners have', () => ({ ...good(), pool: 'default' })],
  ])('%s is refused', async (_name, claims) => {
    expect(await verdict(await forge(claims()))).toMatchObject(REFUSED)
  })

  it('the kind in the header must fit the audience', async () => {
    expect(await verdict(await forge(good(), { typ: 'runyard-admin+jwt' }))).toMatchObject(REFUSED)
    expect(await verdict(await forge({ ...good(), aud: 'runyard:runner' }, { typ: 'runyard-runner+jwt' }))).toMatchObject(REFUSED)
  })

  it.each(['JWT', 'at+jwt', 'runyard-assertion+jwt', 'application/runyard-app+jwt', '', undefined])(
    'typ %j is refused',
    async (typ) => {
      expect(await verdict(await forge(good(), { typ }))).toMatchObject(REFUSED)
    },
  )

  it('a critical extension that nobody here knows is refused', async () => {
    const token = await new SignJWT(good())
      .setProtectedHeader({ ...header(), crit: ['x-new'], 'x-new': true })
      .sign(router.jwk, { crit: { 'x-new': true } })
    expect(await verdict(token)).toMatchObject(REFUSED)
  })

  it('clocks may be 30 s apart, and no more', async () => {
    expect((await asApp(await forge({ ...good(), exp: nowS - 29 }))).status).toBe(200)
    expect(await verdict(await forge({ ...good(), exp: nowS - 30 }))).toMatchObject({
      ...REFUSED,
      detail: expect.stringMatching(/expired/),
    })
    expect((await asApp(await forge({ ...good(), iat: nowS + 30 }))).status).toBe(200)
    expect(await verdict(await forge({ ...good(), iat: nowS + 31 }))).toMatchObject({
      ...REFUSED,
      detail: expect.stringMatching(/not valid yet/),
    })
    expect(await verdict(await forge({ ...good(), nbf: nowS + 31 }))).toMatchObject({
      ...REFUSED,
      detail: expect.stringMatching(/not valid yet/),
    })
  })
})

describe('the record of a token', () => {
  it('a token that another replica has revoked is refused within two seconds', async () => {
    const { token, jti } = await router.mint()
    expect((await asApp(token)).status).toBe(200)
    await router.deps.store.db.update(tokens).set({ revokedAt: router.clock.now }).where(eq(tokens.jti, jti))
    router.clock.now += 2_000
    expect(await verdict(token)).toMatchObject({ ...REFUSED, detail: expect.stringMatching(/revoked/) })
  })

  it('never holds the token', async () => {
    const { token, jti } = await router.mint()
    const rows = await router.deps.store.db.select().from(tokens).where(eq(tokens.jti, jti))
    expect(rows).toHaveLength(1)
    expect(JSON.stringify(rows)).not.toContain(token.split('.')[2])
  })

  it('a token whose tenant is not that of its record is refused', async () => {
    const { jti } = await router.mint({ tenant: 'acme' })
    expect(await verdict(await forge({ ...good(), jti, tenant: 'other' }))).toMatchObject(REFUSED)
  })
})

it('the public key set verifies our tokens and holds nothing private', async () => {
  const { body, headers, status } = await router.call('/.well-known/jwks.json')
  expect(status).toBe(200)
  expect(headers.get('cache-control')).toMatch(/public, max-age=\d+/)
  expect(body).toEqual({
    keys: [{ kty: 'OKP', crv: 'Ed25519', x: router.jwk.x, kid: router.deps.keys.rootKid, use: 'sig', alg: 'EdDSA' }],
  })
  expect(JSON.stringify(body)).not.toContain(router.jwk.d)
})

describe('the signing key', () => {
  it('must be a whole private Ed25519 key whose halves match', async () => {
    const [a, b] = [await generateSigningJwk(), await generateSigningJwk()]
    const { d: _, ...publicHalf } = a
    for (const bad of [
      undefined,
      null,
      'key',
      {},
      publicHalf,
      { ...a, crv: 'X25519' },
      { ...a, kty: 'EC' },
      { ...a, x: b.x },
      { ...a, d: 'AAAA' },
    ]) {
      await expect(importKeys(bad, 'i')).rejects.toThrow(Error)
    }
  })

  it('has the same id each time it is imported', async () => {
    const jwk = await generateSigningJwk()
    const [one, two] = [await importKeys(jwk, 'a'), await importKeys({ ...jwk }, 'b')]
    expect(one.kid).toBe(two.kid)
    expect(one.kid).toMatch(/^[\w-]{43}$/)
  })
})
