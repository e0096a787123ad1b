/**
 * Every route of the OpenAPI document against every kind of token, good and bad. The routes are read from the document and
 * the bad tokens are made of the good ones of all three kinds, so that neither can be forgotten.
 */
import { createServer } from 'node:http'
import { base64url, SignJWT, UnsecuredJWT, type JWTPayload } from 'jose'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SCOPES } from '../router/core/scopes.ts'
import { mintEnrolmentToken } from '../router/guard/enrolment.ts'
import { generateSigningJwk, importKeys, type SigningJwk } from '../router/guard/keys.ts'
import { insertRunner } from '../router/store/runners.ts'
import { identityRouter, listenOnLoopback, type IdentityRouter } from './support/identity-router.ts'
import { scriptedIssuer, type ScriptedIssuer } from './support/issuers.ts'

type Family = 'public' | 'app' | 'admin' | 'runner'
type Verdict = 'in' | 401 | 403
type Kind = 'app' | 'admin' | 'runner'
interface Route {
  readonly method: string
  readonly path: string
  readonly family: Family
}

const RUNNER = 'rnr_00000000000000000000000000000001'
/** Who a good token of each kind gets to. */
const OPENS: Record<Kind, Record<Family, Verdict>> = {
  app: { public: 'in', app: 'in', admin: 403, runner: 403 },
  admin: { public: 'in', app: 'in', admin: 'in', runner: 403 },
  runner: { public: 'in', app: 403, admin: 403, runner: 'in' },
}
const NOBODY: Record<Family, Verdict> = { public: 'in', app: 401, admin: 401, runner: 401 }
const DISABLED: Record<Family, Verdict> = { public: 'in', app: 403, admin: 403, runner: 403 }

let router: IdentityRouter
let issuer: ScriptedIssuer
let routes: Route[]
beforeAll(async () => {
  const any = await identityRouter()
  routes = await everyRoute(any)
  await any.close()
})
beforeEach(async () => {
  router = await identityRouter()
  issuer = await scriptedIssuer()
  const keys = { labels: {}, signingJwk: {}, sealingJwk: {} }
  await insertRunner(router.deps.store.db, { id: RUNNER, tenant: 'default', pool: 'default', name: 'a', ...keys, createdAt: 0 })
})
afterEach(async () => {
  await issuer.close()
  await router.close()
})

async function everyRoute(any: IdentityRouter): Promise<Route[]> {
  const { body } = await any.call('/openapi.json')
  const paths = Object.entries(body['paths'] as Record<string, Record<string, { security?: unknown[] }>>)
  const documented = paths.flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security }]): Route => {
      const family = security?.length === 0 ? 'public' : path.startsWith('/admin/') ? 'admin' : 'app'
      return { method: method.toUpperCase(), path: path.replaceAll(/\{[^}]*\}/g, 'x'), family }
    }),
  )
  // An upgrade is nothing that OpenAPI could describe.
  return [...documented, { method: 'GET', path: '/v1/runners/connect', family: 'runner' }]
}

const nowS = () => router.clock.now / 1_000
const header = (kind: Kind) => ({ alg: 'EdDSA', typ: `runyard-${kind}+jwt`, kid: router.deps.keys.rootKid })
/** Of the tenant that runs the router, so that nothing but the token decides. */
const claims = (kind: Kind): JWTPayload => ({
  iss: router.deps.keys.issuer,
  aud: `runyard:${kind}`,
  sub: kind === 'runner' ? RUNNER : 'test',
  jti: crypto.randomUUID(),
  iat: nowS(),
  exp: nowS() + 600,
  tenant: 'default',
  scope: kind === 'runner' ? '' : SCOPES.join(' '),
  ...(kind === 'runner' ? { pool: 'default' } : {}),
})
const sign = (kind: Kind, more: JWTPayload = {}, head: object = {}, key: SigningJwk | Uint8Array = router.jwk) =>
  new SignJWT({ ...claims(kind), ...more }).setProtectedHeader({ ...header(kind), ...head }).sign(key)

/** What each route says to these headers, as `METHOD path: verdict`. */
async function verdicts(headers: Record<string, string>, on = routes): Promise<string[]> {
  const lines: string[] = []
  for (const { method, path } of on) {
    const { status } = await router.call(path, { method, headers, ...(/^(POST|PUT|PATCH)$/.test(method) ? { body: {} } : {}) })
    lines.push(`${method} ${path}: ${status === 401 || status === 403 ? status : 'in'}`)
  }
  return lines
}
const expected = (by: Record<Family, Verdict>) => routes.map(({ method, path, family }) => `${method} ${path}: ${by[family]}`)
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

async function rotate(): Promise<string> {
  const { body } = await router.call('/admin/v1/keys/rotate', { method: 'POST', token: await adminOfNow() })
  return String(body['kid'])
}
const adminOfNow = async () => (await router.mint({ kind: 'admin', tenant: 'default' })).token

const trustIssuer = async () => {
  const body = { id: 'ci', url: issuer.url, audience: 'runs', mapping: { require: [{ claim: 'sub', is: 'ci' }], scopes: SCOPES.filter((s) => s !== 'admin') } }
  const { status } = await router.call('/admin/v1/issuers', { token: await adminOfNow(), body })
  expect(status).toBe(201)
}
const foreign = (more: JWTPayload = {}) => issuer.sign({ aud: 'runs', sub: 'ci', iat: nowS(), exp: nowS() + 600, ...more })

it('there are routes of every family', () => {
  const count = (family: Family) => routes.filter((route) => route.family === family).length
  expect(count('public')).toBeGreaterThanOrEqual(3)
  expect(count('app')).toBeGreaterThanOrEqual(6)
  expect(count('admin')).toBeGreaterThanOrEqual(20)
  expect(count('runner')).toBe(1)
})

describe('a good token', () => {
  it.each<Kind>(['app', 'admin', 'runner'])('of kind %s opens the routes that it is for', async (kind) => {
    expect(await verdicts(bearer(await sign(kind)))).toEqual(expected(OPENS[kind]))
  })

  it.each<Kind>(['app', 'runner'])('of kind %s outlives one rotation of the key that signed it', async (kind) => {
    const token = await sign(kind)
    await rotate()
    expect(await verdicts(bearer(token))).toEqual(expected(OPENS[kind]))
  })

  it('of a trusted issuer makes an app and nothing more', async () => {
    await trustIssuer()
    expect(await verdicts(bearer(await foreign()))).toEqual(expected(OPENS.app))
  })

  it('may be a key or a password of an older server, which makes an app and nothing more', async () => {
    const scopes = SCOPES.filter((scope) => scope !== 'admin')
    for (const secret of [{ kind: 'key', secret: 'ccs_ak_0123456789' }, { kind: 'basic', user: 'ann', password: 'correct horse' }]) {
      await router.call('/admin/v1/credentials', { token: await adminOfNow(), body: { ...secret, subject: 'old', scopes } })
    }
    for (const headers of [bearer('ccs_ak_0123456789'), { authorization: `Basic ${btoa('ann:correct horse')}` }]) {
      expect(await verdicts(headers)).toEqual(expected(OPENS.app))
    }
  })
})

/** Each makes a token of one kind bad. */
const BAD: Record<string, (kind: Kind) => Promise<string>> = {
  expired: (kind) => sign(kind, { iat: nowS() - 700, exp: nowS() - 31 }),
  'not yet good': (kind) => sign(kind, { nbf: nowS() + 31 }),
  'issued in the future': (kind) => sign(kind, { iat: nowS() + 31 }),
  'without an end': (kind) => sign(kind, { exp: undefined }),
  'for another audience': (kind) => sign(kind, { aud: kind === 'app' ? 'runyard:admin' : 'runyard:app' }),
  'of another type than its audience': (kind) => sign(kind, {}, { typ: kind === 'app' ? 'runyard-admin+jwt' : 'runyard-app+jwt' }),
  'of no type': (kind) => sign(kind, {}, { typ: 'JWT' }),
  'without a signature': (kind) => Promise.resolve(new UnsecuredJWT(claims(kind)).encode()),
  'of algorithm none under a good header': async (kind) => `${base64url.encode(JSON.stringify({ ...header(kind), alg: 'none' }))}.${(await sign(kind)).split('.')[1]}.`,
  'of algorithm none with the signature left in place': async (kind) => {
    const [, payload, signature] = (await sign(kind)).split('.')
    return `${base64url.encode(JSON.stringify({ ...header(kind), alg: 'none' }))}.${payload}.${signature}`
  },
  'with our public key as a shared secret': (kind) => sign(kind, {}, { alg: 'HS256' }, base64url.decode(router.jwk.x)),
  'with our public key as a shared secret, as text': (kind) => sign(kind, {}, { alg: 'HS256' }, new TextEncoder().encode(JSON.stringify({ kty: 'OKP', crv: 'Ed25519', x: router.jwk.x }))),
  'of another router': async (kind) => (await importKeys(await generateSigningJwk(), 'https://elsewhere.test')).sign(header(kind).typ, claims(kind)),
  'of another key that calls itself ours': async (kind) => sign(kind, {}, {}, await generateSigningJwk()),
  'of an unknown key': async (kind) => (await importKeys(await generateSigningJwk(), router.deps.keys.issuer)).sign(header(kind).typ, claims(kind)),
  'of one of our keys that names the other': async (kind) => sign(kind, {}, { kid: await rotate() }),
  'without a key id': (kind) => sign(kind, {}, { kid: undefined }),
  'with a path for a key id': (kind) => sign(kind, {}, { kid: '../../../../dev/null' }),
  'with SQL for a key id': (kind) => sign(kind, {}, { kid: `x' UNION SELECT '${router.jwk.x}` }),
  'with a list for a key id': (kind) => sign(kind, {}, { kid: [router.deps.keys.rootKid] }),
  'with a critical extension': async (kind) => {
    const signer = new SignJWT(claims(kind)).setProtectedHeader({ ...header(kind), crit: ['exp'], exp: 1 })
    return signer.sign(router.jwk, { crit: { exp: true } })
  },
  'for another tenant than its record': async (kind) => {
    const { jti } = await router.mint({ tenant: 'acme', kind: kind === 'admin' ? 'admin' : 'app' })
    return kind === 'runner' ? sign(kind, { tenant: 'acme' }) : sign(kind, { jti })
  },
  'of a retired key': async (kind) => {
    const token = await sign(kind)
    await rotate()
    await rotate()
    return token
  },
  revoked: async (kind) => {
    if (kind === 'runner') return sign(kind, { sub: 'rnr_00000000000000000000000000000002' })
    const { token, jti } = await router.mint({ kind, tenant: 'default' })
    await router.call(`/admin/v1/tokens/${jti}`, { method: 'DELETE', token: await adminOfNow() })
    return token
  },
  'of a tenant that revoked everything': async (kind) => {
    const token = await sign(kind)
    router.clock.now += 1_000
    await router.call('/admin/v1/tokens/revoke', { token: await adminOfNow(), body: { all: true } })
    return token
  },
}

describe.each(Object.entries(BAD))('a token %s', (_what, bad) => {
  it.each<Kind>(['app', 'admin', 'runner'])('of kind %s opens nothing', async (kind) => {
    expect(await verdicts(bearer(await bad(kind)))).toEqual(expected(NOBODY))
  })
})

describe('what is no token of anybody', () => {
  it('opens nothing: none, garbage, an enrolment token, what an app cannot know', async () => {
    const { token: enrolment } = await mintEnrolmentToken(router.deps, { tenant: 'default', pool: 'default' })
    const nothing: Record<string, string>[] = [{}, bearer('garbage'), bearer('a.b.c'), bearer(enrolment), bearer('ccs_ak_0123456789')]
    const basic = (pair: string) => ({ authorization: `Basic ${btoa(pair)}` })
    for (const headers of [...nothing, basic('ann:wrong horse'), basic(`ann:${enrolment}`), { 'x-api-key': "' OR 1=1 --" }]) {
      expect(await verdicts(headers), JSON.stringify(headers)).toEqual(expected(NOBODY))
    }
  })
})

describe('a disabled tenant', () => {
  it.each<Kind>(['app', 'admin', 'runner'])('gets nowhere with a good token of kind %s', async (kind) => {
    const runner = { id: 'rnr_00000000000000000000000000000002', tenant: 'acme', pool: 'default', name: 'b', labels: {}, signingJwk: {}, sealingJwk: {} }
    await insertRunner(router.deps.store.db, { ...runner, createdAt: 0 })
    await router.mint({ tenant: 'acme' })
    const token = await sign(kind, { tenant: 'acme', ...(kind === 'runner' ? { sub: runner.id } : {}) })
    await router.call('/admin/v1/tenants/acme', { method: 'PATCH', token: await adminOfNow(), body: { disabled: true } })
    expect(await verdicts(bearer(token))).toEqual(expected(DISABLED))
  })
})

describe('a token of an issuer', () => {
  it.each<[string, () => Promise<string>]>([
    ['expired', () => foreign({ exp: nowS() - 31 })],
    ['for another audience', () => foreign({ aud: 'elsewhere' })],
    ['that nobody trusts', () => foreign({ iss: 'https://elsewhere.example.com' })],
    ['of somebody else', () => foreign({ sub: 'ci2' })],
    ['that calls itself ours', () => foreign({ ...claims('admin') })],
    ['with our types', () => issuer.sign({ ...claims('admin'), iss: issuer.url }, { typ: 'runyard-admin+jwt' })],
  ])('%s opens nothing', async (_what, make) => {
    await trustIssuer()
    expect(await verdicts(bearer(await make()))).toEqual(expected(NOBODY))
  })
})

describe('where a header leads', () => {
  it.each<Kind>(['app', 'admin', 'runner'])('nobody follows, for a token of kind %s', async (kind) => {
    let asked = 0
    const server = createServer((_request, response) => {
      asked++
      response.end('{"keys":[]}')
    })
    const url = `http://127.0.0.1:${await listenOnLoopback(server)}`
    try {
      const theirs = await generateSigningJwk()
      const { d: _, ...jwk } = theirs
      const heads = [{ jku: `${url}/jku` }, { jwk }, { x5u: `${url}/x5u` }, { x5c: ['MIIB'] }, { kid: `${url}/kid` }, { jku: `${url}/jku`, kid: 'theirs' }]
      for (const head of heads) {
        expect(await verdicts(bearer(await sign(kind, {}, head, theirs))), JSON.stringify(head)).toEqual(expected(NOBODY))
        const unknown = await sign(kind, { iss: url }, head, theirs)
        expect(await verdicts(bearer(unknown)), JSON.stringify(head)).toEqual(expected(NOBODY))
      }
      expect(asked).toBe(0)
    } finally {
      server.close()
    }
  })
})
