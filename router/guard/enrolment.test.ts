import { eq } from 'drizzle-orm'
import { base64url, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT, type CryptoKey, type JWTPayload } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { assertions, enrolments, runners } from '../../drizzle/schema.ts'
import type { Answer, IdentityRouter } from '../../test/support/identity-router.ts'
import { ADMIN_ROUTE, identityRouter, RUNNER_ROUTE, UPGRADE } from '../../test/support/identity-router.ts'
import { pruneAssertions } from '../store/enrolments.ts'
import { assertionAudiences } from './assertion.ts'
import { mintEnrolmentToken } from './enrolment.ts'

const ENROLL = '/v1/runners/enroll'
const TOKEN = '/v1/runners/token'
const HERE = `http://localhost:8787${TOKEN}`

let router: IdentityRouter
let nowS: number
beforeAll(async () => {
  router = await identityRouter({ publicUrl: 'https://runs.example.com/' })
  nowS = router.clock.now / 1000
})
afterAll(() => router.close())

const ticket = async (): Promise<string> => (await mintEnrolmentToken(router.deps, { tenant: 'acme', pool: 'gpu' })).token

async function machine() {
  const signing = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const sealing = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  const body = {
    signing_jwk: await exportJWK(signing.publicKey),
    sealing_jwk: await exportJWK(sealing.publicKey),
    name: 'build-7',
    labels: { os: 'linux' },
    versions: { agent: '0.1.0', cli: null },
  }
  return { signing, sealing, body }
}
type Machine = Awaited<ReturnType<typeof machine>>
async function enrol(token: string, over: object = {}, m?: Machine): Promise<Answer> {
  const { body } = m ?? (await machine())
  return router.call(ENROLL, { body: { ...body, token, ...over } })
}

const b64 = (bytes: number): string => base64url.encode(new Uint8Array(bytes).fill(7))
const trade = (assertion: string): Promise<Answer> => router.call(TOKEN, { body: { assertion } })
const REFUSED = { status: 401, body: { code: 'unauthenticated' } }

const unused = async (): Promise<number> =>
  (await router.deps.store.db.select().from(enrolments)).filter((e) => e.usedAt === null).length

describe('an enrolment token', () => {
  it('comes from an admin, for an hour, and is stored as a hash only', async () => {
    const { token: admin } = await router.mint({ kind: 'admin', tenant: 'acme' })
    const { status, body, headers } = await router.call(ADMIN_ROUTE, { token: admin, body: {} })
    expect(status).toBe(201)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body).toEqual({
      id: expect.stringMatching(/^enr_[\w-]{16}$/),
      token: expect.stringMatching(/^ret_[\w-]{43}$/),
      pool: 'default',
      expires_at: new Date(router.clock.now + 3_600_000).toISOString(),
    })
    const stored = JSON.stringify(await router.deps.store.db.select().from(enrolments))
    expect(stored).not.toContain(String(body['token']))
    expect(stored).not.toContain(String(body['token']).slice(4))
  })

  it('lets one machine in, with the tenant and pool that the admin chose', async () => {
    const { token: admin } = await router.mint({ kind: 'admin', tenant: 'default' })
    const made = await router.call(ADMIN_ROUTE, { token: admin, body: { tenant: 'blue', pool: 'big', ttl_s: 60 } })
    const { status, body } = await enrol(String(made.body['token']))
    expect(status).toBe(201)
    expect(body).toEqual({ runner_id: expect.stringMatching(/^rnr_[0-9a-f]{32}$/), tenant: 'blue', pool: 'big' })
  })

  it('is refused when unknown, used, expired or for another pool, in the same words', async () => {
    const used = await ticket()
    expect((await enrol(used)).status).toBe(201)
    const expired = (await mintEnrolmentToken(router.deps, { tenant: 'acme', pool: 'gpu', ttlS: 0 })).token
    const answers = [
      await enrol(`ret_${'A'.repeat(43)}`),
      await enrol(used),
      await enrol(expired),
      await enrol(await ticket(), { pool: 'default' }),
      await enrol("' OR '1'='1"),
      await enrol('%'),
    ]
    expect(new Set(answers.map((a) => a.body['detail'])).size).toBe(1)
    for (const { status, headers } of answers) {
      expect(status).toBe(401)
      expect(headers.get('www-authenticate')).toMatch(/^Bearer/)
    }
  })

  it('tried by twenty machines at once lets exactly one in', async () => {
    const token = await ticket()
    const before = (await router.deps.store.db.select().from(runners)).length
    const answers = await Promise.all(Array.from({ length: 20 }, () => enrol(token)))
    expect(answers.map((a) => a.status).toSorted((a, b) => a - b)).toEqual([201, ...Array.from({ length: 19 }, () => 401)])
    expect((await router.deps.store.db.select().from(runners)).length).toBe(before + 1)
  })

  it('is not used up by a request that is refused for another reason', async () => {
    const token = await ticket()
    const before = await unused()
    expect((await enrol(token, { name: '../x' })).status).toBe(400)
    expect((await enrol(token, { pool: 'other' })).status).toBe(401)
    expect((await enrol(token, { sealing_jwk: { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) } })).status).toBe(
      400,
    )
    expect(await unused()).toBe(before)
    expect((await enrol(token, { pool: 'gpu' })).status).toBe(201)
  })
})

describe('the keys of a machine', () => {
  it.each<[string, string, (m: Machine) => Promise<object> | object]>([
    ['signing_jwk.d', 'a private signing key', async (m) => ({ signing_jwk: await exportJWK(m.signing.privateKey) })],
    ['sealing_jwk.d', 'a private sealing key', async (m) => ({ sealing_jwk: await exportJWK(m.sealing.privateKey) })],
    ['signing_jwk.d', 'a private half that is null', (m) => ({ signing_jwk: { ...m.body.signing_jwk, d: null } })],
    ['signing_jwk', 'P-256 to sign with', (m) => ({ signing_jwk: m.body.sealing_jwk })],
    ['sealing_jwk', 'Ed25519 to unseal with', (m) => ({ sealing_jwk: m.body.signing_jwk })],
    ['signing_jwk', 'RSA', () => ({ signing_jwk: { kty: 'RSA', n: b64(128), e: 'AQAB' } })],
    ['signing_jwk', 'a symmetric key', () => ({ signing_jwk: { kty: 'oct', k: b64(32) } })],
    ['signing_jwk.crv', 'X25519', () => ({ signing_jwk: { kty: 'OKP', crv: 'X25519', x: b64(32) } })],
    ['signing_jwk.crv', 'Ed448', () => ({ signing_jwk: { kty: 'OKP', crv: 'Ed448', x: b64(57) } })],
    ['signing_jwk.x', 'a key that is too short', () => ({ signing_jwk: { kty: 'OKP', crv: 'Ed25519', x: b64(31) } })],
    ['signing_jwk.x', 'a key that is too long', () => ({ signing_jwk: { kty: 'OKP', crv: 'Ed25519', x: b64(33) } })],
    [
      'sealing_jwk',
      'a point that is not on the curve',
      () => ({ sealing_jwk: { kty: 'EC', crv: 'P-256', x: b64(32), y: b64(32) } }),
    ],
    ['sealing_jwk.crv', 'P-384', () => ({ sealing_jwk: { kty: 'EC', crv: 'P-384', x: b64(48), y: b64(48) } })],
    ['signing_jwk.extra', 'a field that is not part of it', (m) => ({ signing_jwk: { ...m.body.signing_jwk, extra: 1 } })],
    ['signing_jwk', 'text', () => ({ signing_jwk: 'ssh-ed25519 AAAA' })],
  ])('%s: %s is refused', async (field, _what, over) => {
    const m = await machine()
    const { status, body } = await enrol(await ticket(), await over(m), m)
    expect(status).toBe(400)
    expect(body['code']).toBe('invalid_request')
    expect(String(body['field'])).toMatch(new RegExp(`^${field.replaceAll('.', '\\.')}`))
  })

  it('a private key that was sent by mistake is not repeated in the answer', async () => {
    const m = await machine()
    const jwk = await exportJWK(m.signing.privateKey)
    const { body } = await enrol(await ticket(), { signing_jwk: jwk }, m)
    expect(body['detail']).toMatch(/never leave the machine/)
    expect(JSON.stringify(body)).not.toContain(jwk.d)
  })
})

describe('the body of an enrolment', () => {
  it.each<[string, string]>([
    ['an unknown field', '"admin":true'],
    ['a prototype', '"__proto__":{"tenant":"other"}'],
    ['a constructor', '"constructor":{"prototype":{"tenant":"other"}}'],
    ['a tenant', '"tenant":"other"'],
  ])('%s is refused by name', async (_what, member) => {
    const text = JSON.stringify({ ...(await machine()).body, token: await ticket() })
    const { status, body } = await router.call(ENROLL, { body: `${text.slice(0, -1)},${member}}` })
    expect(status).toBe(400)
    expect(body['detail']).toContain(member.split('"')[1])
    expect(({} as Record<string, unknown>)['tenant']).toBeUndefined()
  })

  it.each<[object]>([
    [{ labels: { __proto__x: 'y' } }],
    [{ labels: { 'a b': 'y' } }],
    [{ labels: { a: 1 } }],
    [{ labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, 'v'])) }],
    [{ labels: { a: 'x'.repeat(257) } }],
    [{ name: '' }],
    [{ name: 'a/b' }],
    [{ name: "'; DROP TABLE runners; --" }],
    [{ name: 'x'.repeat(64) }],
    [{ versions: { agent: 1, cli: null } }],
    [{ token: '' }],
    [{ token: ['ret_'] }],
  ])('%j is refused', async (over) => {
    expect((await enrol(await ticket(), over)).status).toBe(400)
  })

  it('hostile label values are kept as they are, as data', async () => {
    const value = "'); DROP TABLE runners; --"
    const { status, body } = await enrol(await ticket(), { labels: { constructor: value, toString: '${7*7}' } })
    expect(status).toBe(201)
    const [row] = await router.deps.store.db
      .select()
      .from(runners)
      .where(eq(runners.id, String(body['runner_id'])))
    expect(row?.labels).toEqual({ constructor: value, toString: '${7*7}' })
  })

  it('a web page is refused, even one of our own', async () => {
    for (const path of [ENROLL, TOKEN]) {
      expect(await router.call(path, { body: {}, headers: { origin: 'http://localhost:8787' } })).toMatchObject({
        status: 403,
        body: { code: 'origin' },
      })
    }
  })
})

describe('an assertion', () => {
  let id: string
  let key: CryptoKey
  let other: string
  beforeAll(async () => {
    const m = await machine()
    key = m.signing.privateKey
    id = String((await enrol(await ticket(), {}, m)).body['runner_id'])
    other = String((await enrol(await ticket())).body['runner_id'])
  })

  const good = (): JWTPayload => ({ iss: id, sub: id, aud: HERE, iat: nowS, exp: nowS + 30, jti: crypto.randomUUID() })
  const sign = (claims: JWTPayload, header: object = {}, by: CryptoKey = key): Promise<string> =>
    new SignJWT(claims).setProtectedHeader({ alg: 'EdDSA', typ: 'runyard-assertion+jwt', ...header }).sign(by)

  it('is traded for a 15-minute token that opens the runner routes', async () => {
    const { status, body, headers } = await trade(await sign(good()))
    expect({ status, expires: body['expires_in_s'], cache: headers.get('cache-control') }).toEqual({
      status: 200,
      expires: 900,
      cache: 'no-store',
    })
    const connect = (): Promise<Answer> => router.call(RUNNER_ROUTE, { token: String(body['token']), headers: UPGRADE })
    expect(await connect()).toMatchObject({ status: 200, body: { runner: id, tenant: 'acme', pool: 'gpu' } })
    router.clock.now += 931_000
    expect((await connect()).status).toBe(401)
    router.clock.now -= 931_000
  })

  it('is good once, also when it comes ten times at once', async () => {
    const assertion = await sign(good())
    const answers = await Promise.all(Array.from({ length: 10 }, () => trade(assertion)))
    expect(answers.filter((a) => a.status === 200)).toHaveLength(1)
    expect(await trade(assertion)).toMatchObject({ status: 401, body: { detail: expect.stringContaining('used before') } })
  })

  it('is good at our public URL and at the name we were called by, under either scheme', async () => {
    for (const aud of [`https://runs.example.com${TOKEN}`, HERE, HERE.replace('http:', 'https:')]) {
      expect((await trade(await sign({ ...good(), aud }))).status).toBe(200)
    }
    for (const aud of [
      `https://evil.example${TOKEN}`,
      'http://localhost:8787',
      HERE.replace('8787', '8788'),
      `${HERE}/`,
      'runyard:runner',
    ]) {
      expect(await trade(await sign({ ...good(), aud }))).toMatchObject({
        status: 401,
        body: { detail: expect.stringContaining('another address') },
      })
    }
    expect(assertionAudiences({ publicUrl: undefined, allowedHosts: [], corsOrigins: [], timeoutS: 1 }, HERE)).toEqual([
      HERE.replace('http:', 'https:'),
      HERE,
    ])
  })

  it('may be good for a minute and no longer', async () => {
    expect((await trade(await sign({ ...good(), exp: nowS + 60 }))).status).toBe(200)
    expect(await trade(await sign({ ...good(), exp: nowS + 61 }))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), iat: nowS - 40, exp: nowS + 30 }))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), iat: nowS + 20, exp: nowS + 61 }))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), iat: nowS + 31, exp: nowS + 60 }))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), exp: nowS + 86_400 * 365 }))).toMatchObject(REFUSED)
    expect((await trade(await sign({ ...good(), iat: nowS - 59, exp: nowS - 29 }))).status).toBe(200)
    expect(await trade(await sign({ ...good(), iat: nowS - 60, exp: nowS - 30 }))).toMatchObject(REFUSED)
  })

  it.each(['iss', 'sub', 'aud', 'iat', 'exp', 'jti'])('without %s it is refused', async (claim) => {
    const { [claim]: _, ...claims } = good()
    expect(await trade(await sign(claims))).toMatchObject(REFUSED)
  })

  it('is refused when it is not signed by the runner it names', async () => {
    const { signing } = await machine()
    expect(await trade(await sign(good(), {}, signing.privateKey))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), iss: other, sub: other }))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), sub: other }))).toMatchObject(REFUSED)
    expect(await trade(await sign({ ...good(), iss: `rnr_${'0'.repeat(32)}`, sub: `rnr_${'0'.repeat(32)}` }))).toMatchObject(
      REFUSED,
    )
    expect(await trade(await sign({ ...good(), iss: "rnr_' OR '1'='1", sub: "rnr_' OR '1'='1" }))).toMatchObject(REFUSED)
  })

  it('is refused with alg none, with HS256 and the public key, with another type, and with a critical extension', async () => {
    expect(await trade(new UnsecuredJWT(good()).encode())).toMatchObject(REFUSED)
    const [row] = await router.deps.store.db.select().from(runners).where(eq(runners.id, id))
    const secret = base64url.decode(String(row?.signingJwk['x']))
    expect(
      await trade(await new SignJWT(good()).setProtectedHeader({ alg: 'HS256', typ: 'runyard-assertion+jwt' }).sign(secret)),
    ).toMatchObject(REFUSED)
    for (const typ of ['JWT', 'runyard-runner+jwt', undefined])
      expect(await trade(await sign(good(), { typ }))).toMatchObject(REFUSED)
    expect(
      await trade(
        await new SignJWT(good())
          .setProtectedHeader({ alg: 'EdDSA', typ: 'runyard-assertion+jwt', crit: ['x-new'], 'x-new': 1 })
          .sign(key, { crit: { 'x-new': true } }),
      ),
    ).toMatchObject(REFUSED)
  })

  it.each(['a', 'a.b.c', '{}', 'e30.e30.e30'])('%j is refused', async (assertion) => {
    expect(await trade(assertion)).toMatchObject(REFUSED)
  })

  it('is refused with an id that is too short, too long or hostile', async () => {
    for (const jti of ['', 'short', 'x'.repeat(65), "'; DROP TABLE assertions; --", `${id}:0123456789abcdef`])
      expect(await trade(await sign({ ...good(), jti }))).toMatchObject(REFUSED)
  })

  it('an id that one runner used is still free for another', async () => {
    const m = await machine()
    const second = String((await enrol(await ticket(), {}, m)).body['runner_id'])
    const claims = good()
    expect((await trade(await sign(claims))).status).toBe(200)
    expect((await trade(await sign({ ...claims, iss: second, sub: second }, {}, m.signing.privateKey))).status).toBe(200)
  })

  it('of a revoked runner is refused, and so is the token it already has', async () => {
    const m = await machine()
    const gone = String((await enrol(await ticket(), {}, m)).body['runner_id'])
    const claims = (): JWTPayload => ({ ...good(), iss: gone, sub: gone })
    const { body } = await trade(await sign(claims(), {}, m.signing.privateKey))
    await router.deps.store.db.update(runners).set({ revokedAt: router.clock.now }).where(eq(runners.id, gone))
    expect(await trade(await sign(claims(), {}, m.signing.privateKey))).toMatchObject(REFUSED)
    expect((await router.call(RUNNER_ROUTE, { token: String(body['token']), headers: UPGRADE })).status).toBe(401)
  })

  it('its id is forgotten once it could not be used any more, and not before', async () => {
    const claims = good()
    await trade(await sign(claims))
    const { db } = router.deps.store
    const its = eq(assertions.jti, `${id}:${String(claims.jti)}`)
    const kept = async (): Promise<number> => (await db.select().from(assertions).where(its)).length
    await pruneAssertions(db, router.clock.now + 60_000)
    expect(await kept()).toBe(1)
    await pruneAssertions(db, router.clock.now + 62_000)
    expect(await kept()).toBe(0)
  })
})
