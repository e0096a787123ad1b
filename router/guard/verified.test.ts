import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { signingKeys, tenants, tokens } from '../../drizzle/schema.ts'
import { identityRouter, APP_ROUTE, type IdentityRouter } from '../../test/support/identity-router.ts'
import { scriptedIssuer, type ScriptedIssuer } from '../../test/support/issuers.ts'
import { rotation } from '../store/signing-keys.ts'
import { MAX_VERIFIED, verifiedOf, webDigest, type VerifiedMemory } from './verified.ts'

const FELT_MS = 5_000

describe('a token that was verified', () => {
  const key = {}
  let now = 0
  let checks = 0
  let memory: VerifiedMemory<string, object>
  const claims = (token: string, by: object = key) =>
    verifiedOf(memory, webDigest, () => now).claims(token, by, () => {
      checks++
      return token === 'bad' ? Promise.reject(new Error('no')) : Promise.resolve(`claims of ${token}`)
    })
  beforeEach(() => {
    memory = new Map()
    now = 0
    checks = 0
  })

  it('is checked once in a minute, however often it comes', async () => {
    for (let i = 0; i < 60; i++, now += 1_000) expect(await claims('a')).toBe('claims of a')
    expect(checks).toBe(1)
    await claims('a')
    expect(checks).toBe(2)
  })

  it('is checked anew against another key', async () => {
    await claims('a')
    await claims('a', {})
    expect(checks).toBe(2)
  })

  it('says nothing of another one, and what is refused is not kept', async () => {
    await claims('a')
    expect(await claims('b')).toBe('claims of b')
    for (let i = 0; i < 2; i++) await expect(claims('bad')).rejects.toThrow('no')
    expect(checks).toBe(4)
    expect(memory.size).toBe(2)
  })

  it('is known for a minute, with the key that it was held against', async () => {
    const known = (token: string) => verifiedOf(memory, webDigest, () => now).known(token)
    expect(await known('a')).toBeUndefined()
    await claims('a')
    now = 59_999
    expect(await known('a')).toMatchObject({ key, claims: 'claims of a' })
    expect(await known('b')).toBeUndefined()
    now = 60_000
    expect(await known('a')).toBeUndefined()
  })

  it('is kept by its hash, and what was used the longest ago goes first', async () => {
    await claims('first')
    await claims('second')
    for (let i = 2; i < MAX_VERIFIED; i++) await claims(`token-${i}`)
    expect(memory.size).toBe(MAX_VERIFIED)
    await claims('first')
    await claims('one more')
    expect(memory.size).toBe(MAX_VERIFIED)
    checks = 0
    await claims('first')
    expect(checks).toBe(0)
    await claims('second')
    expect(checks).toBe(1)
    expect([...memory.keys()].some((hash) => hash.includes('first'))).toBe(false)
  })
})

describe('a token that was let in a moment ago', () => {
  let router: IdentityRouter
  beforeEach(async () => void (router = await identityRouter()))
  afterEach(() => router.close())

  const db = () => router.deps.store.db
  const status = async (token: string) => (await router.call(APP_ROUTE, { token })).status
  const letIn = async (wish: Parameters<IdentityRouter['mint']>[0] = {}) => {
    const minted = await router.mint(wish)
    expect(await status(minted.token)).toBe(200)
    return minted
  }
  /** As another replica would have done it: nobody here is told. */
  const feltAfter = async (change: () => Promise<unknown>, token: string) => {
    await change()
    router.clock.now += FELT_MS
    return status(token)
  }

  it('is refused within five seconds of its revocation', async () => {
    const { token, jti } = await letIn()
    expect(await feltAfter(() => db().update(tokens).set({ revokedAt: 1 }).where(eq(tokens.jti, jti)), token)).toBe(401)
  })

  it('is refused as soon as it has expired', async () => {
    const { token } = await letIn({ ttlS: 20 })
    router.clock.now += 49_999
    expect(await status(token)).toBe(200)
    router.clock.now += 1
    expect(await status(token)).toBe(401)
  })

  it('is refused within five seconds of the end of its tenant, and no other is', async () => {
    const mine = await letIn()
    const others = await letIn({ tenant: 'other' })
    expect(await feltAfter(() => db().update(tenants).set({ disabledAt: 1 }).where(eq(tenants.id, 'acme')), mine.token)).toBe(403)
    expect(await status(others.token)).toBe(200)
  })

  it('is refused within five seconds when the key that signed it is retired', async () => {
    const { token } = await letIn()
    const root = router.deps.keys.rootKid
    const retired = async () => {
      const sealed = await router.deps.vault.seal('x', 'y')
      await router.deps.store.batch(rotation(db(), { kid: 'new', sealed }, root, 1))
      await db().update(signingKeys).set({ retiredAt: 1 }).where(eq(signingKeys.kid, root))
    }
    expect(await feltAfter(retired, token)).toBe(401)
  })

  it('makes no other token good that differs in one character', async () => {
    const { token } = await letIn()
    const last = token.at(-10) === 'A' ? 'B' : 'A'
    expect(await status(`${token.slice(0, -10)}${last}${token.slice(-9)}`)).toBe(401)
  })
})

describe('a token of an issuer that was let in a moment ago', () => {
  let router: IdentityRouter
  let issuer: ScriptedIssuer
  let operator: string
  beforeEach(async () => {
    router = await identityRouter()
    router.clock.now = Date.now()
    issuer = await scriptedIssuer()
    operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    const mapping = { require: [{ claim: 'sub', is: 'ci' }], scopes: ['runs:read'] }
    await router.call('/admin/v1/issuers', { token: operator, body: { id: 'ci', url: issuer.url, audience: 'runs', tenant: 'acme', mapping } })
  })
  afterEach(async () => {
    await issuer.close()
    await router.close()
  })
  const nowS = () => Math.floor(router.clock.now / 1_000)
  const status = async (token: string) => (await router.call(APP_ROUTE, { token })).status

  it('is refused once it has expired, and once its issuer is mapped otherwise', async () => {
    const token = await issuer.sign({ aud: 'runs', sub: 'ci', iat: nowS(), exp: nowS() + 10 })
    const longer = await issuer.sign({ aud: 'runs', sub: 'ci', iat: nowS(), exp: nowS() + 600 })
    for (const each of [token, longer, token, longer]) expect(await status(each)).toBe(200)
    router.clock.now += 40_000
    expect(await status(token)).toBe(401)
    expect(await status(longer)).toBe(200)
    await router.call('/admin/v1/issuers/ci', { method: 'PATCH', token: operator, body: { mapping: { require: [{ claim: 'sub', is: 'cd' }], scopes: ['runs:read'] } } })
    expect(await status(longer)).toBe(401)
  })
})
