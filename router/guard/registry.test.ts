import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { credentials, tokens } from '../../drizzle/schema.ts'
import { rotation } from '../store/signing-keys.ts'
import { identityRouter, type IdentityRouter } from '../../test/support/identity-router.ts'
import { scriptedIssuer } from '../../test/support/issuers.ts'
import { admit } from './authenticate.ts'
import type { Presented } from './credentials.ts'
import { identityMemory, identityOf } from './identity.ts'
import { generateSigningJwk, importKeys } from './keys.ts'
import { newToken } from './mint.ts'
import { resealSigningKeys } from './reseal.ts'
import { signingKeyContext } from './ring.ts'
import { newKeyRing, openVault, withNewKey } from './vault.ts'

let router: IdentityRouter
let reads: number
/** A router's guard that has just begun, and counts what it asks of the database. */
let guard: (presented: Presented, address?: string) => ReturnType<typeof admit>
let fresh: () => Promise<void>
beforeEach(async () => {
  router = await identityRouter()
  const { platform, vault, log } = router.deps
  const db = new Proxy(router.deps.store.db, {
    get(target, name, receiver) {
      if (name === 'select') reads++
      return Reflect.get(target, name, receiver) as unknown
    },
  })
  fresh = async () => {
    reads = 0
    const root = await importKeys(router.jwk, router.deps.keys.issuer)
    const identity = identityOf({ db, vault, root, platform, log, memory: identityMemory(), now: () => platform.now() })
    guard = (presented, address) => admit({ ...identity, vault, platform }, presented, address)
    // The keys are read once for all tokens.
    await identity.keys.live()
    reads = 0
  }
  await fresh()
})
afterEach(() => router.close())

const token = (text: string): Presented => ({ kind: 'token', token: text })

describe('how often the database is asked who somebody is', () => {
  it('is once for a token of ours, and not again for two seconds', async () => {
    const { token: mine } = await router.mint()
    for (let i = 0; i < 10; i++) await guard(token(mine))
    expect(reads).toBe(1)
    router.clock.now += 2_000
    await guard(token(mine))
    expect(reads).toBe(2)
  })

  it('is no longer answered to an address that has guessed too much, and to every other', async () => {
    const { token: admin } = await router.mint({ kind: 'admin' })
    await router.call('/admin/v1/credentials', { token: admin, body: { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old' } })
    for (let i = 0; i < 50; i++) await expect(guard(token(`guess-number-${i}`), '203.0.113.7')).rejects.toThrow(/not valid/)
    await expect(guard(token('guess-number-x'), '203.0.113.7')).rejects.toThrow(/too many/)
    await expect(guard(token('ccs_ak_0123456789'), '203.0.113.7')).rejects.toThrow(/too many/)
    expect((await guard(token('ccs_ak_0123456789'), '203.0.113.8')).who.subject).toBe('old')
    // Whoever was right once is not held up.
    expect((await guard(token('ccs_ak_0123456789'), '203.0.113.7')).who.subject).toBe('old')
  })

  it('is once for a key of an older server, good or not', async () => {
    await router.call('/admin/v1/credentials', {
      token: (await router.mint({ kind: 'admin' })).token,
      body: { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old' },
    })
    for (const [secret, good] of [['ccs_ak_0123456789', true], ['ccs_ak_9876543210', false]] as const) {
      await fresh()
      for (let i = 0; i < 10; i++) {
        const admitted = await guard(token(secret)).then(
          () => true,
          () => false,
        )
        expect(admitted).toBe(good)
      }
      expect(reads).toBe(1)
    }
  })

  it('is once for all the tokens of issuers, known or not', async () => {
    const issuer = await scriptedIssuer()
    const operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    const mapping = { require: [{ claim: 'sub', is: 'ci' }] }
    await router.call('/admin/v1/issuers', { token: operator, body: { id: 'ci', url: issuer.url, audience: 'runs', tenant: 'acme', mapping } })
    const nowS = router.clock.now / 1_000
    const claims = { aud: 'runs', sub: 'ci', iat: nowS, exp: nowS + 60 }
    for (let i = 0; i < 5; i++) {
      await guard(token(await issuer.sign({ ...claims, jti: String(i) })))
      await expect(guard(token(await issuer.sign({ ...claims, iss: `https://unknown-${i}.example.com` })))).rejects.toThrow(/not from an issuer/)
    }
    expect(reads).toBe(1)
    await issuer.close()
  })

  it('is never for a token that nobody signed', async () => {
    const { token: mine } = await router.mint()
    await expect(guard(token(`${mine.slice(0, -8)}AAAAAAAA`))).rejects.toThrow(/not valid/)
    expect(reads).toBe(0)
  })
})

describe('what is remembered', () => {
  it('is given up where it was changed, also by a read that was under way', async () => {
    const { registry } = router.deps.identity
    const { jti } = await router.mint()
    const asked = { jti, tenant: 'acme', kid: 'x' }
    const underWay = registry.token(asked)
    registry.changed()
    await underWay
    await router.deps.store.db.update(tokens).set({ revokedAt: 1 }).where(eq(tokens.jti, jti))
    expect(await registry.token(asked)).toMatchObject({ revokedAt: 1 })
  })

  it('of a revoked key is that it is none', async () => {
    const admin = (await router.mint({ kind: 'admin' })).token
    await router.call('/admin/v1/credentials', { token: admin, body: { kind: 'key', secret: 'ccs_ak_0123456789', subject: 'old' } })
    await router.deps.store.db.update(credentials).set({ revokedAt: 1 })
    await expect(guard(token('ccs_ak_0123456789'))).rejects.toThrow(/not valid/)
  })
})

describe('a signing key that cannot be opened any more', () => {
  it('ends its own tokens, and no others', async () => {
    const { token: older } = await router.mint()
    const operator = (await router.mint({ kind: 'admin', tenant: 'default' })).token
    await router.call('/admin/v1/keys/rotate', { method: 'POST', token: operator })
    const { token: newer } = await router.mint()
    const { platform, log, store } = router.deps
    const vault = await openVault(newKeyRing('another'))
    const root = await importKeys(router.jwk, router.deps.keys.issuer)
    const identity = identityOf({ db: store.db, vault, root, platform, log, memory: identityMemory(), now: () => platform.now() })
    await expect(admit({ ...identity, vault, platform }, token(newer))).rejects.toThrow(/not signed by this router/)
    expect((await admit({ ...identity, vault, platform }, token(older))).who.tenant).toBe('acme')
  })
})

describe('a new master key', () => {
  it('takes the signing keys over, so that the old one can go', async () => {
    const ring = newKeyRing('old')
    const { platform, log, store } = router.deps
    const root = await importKeys(router.jwk, router.deps.keys.issuer)
    const withVault = async (keys: typeof ring) => {
      const vault = await openVault(keys)
      return { vault, platform, ...identityOf({ db: store.db, vault, root, platform, log, memory: identityMemory(), now: () => platform.now() }) }
    }
    const old = await withVault(ring)
    const jwk = await generateSigningJwk()
    const { kid } = await importKeys(jwk, root.issuer)
    const sealed = await old.vault.seal(signingKeyContext(kid), JSON.stringify(jwk))
    await store.batch(rotation(store.db, { kid, sealed }, root.kid, platform.now()))
    const { token: mine } = await newToken({ platform, keys: old.keys }, { kind: 'app', tenant: 'acme', subject: 'test' })

    const both = withNewKey(ring, 'new')
    await resealSigningKeys({ store, vault: await openVault(both), log })
    const renewed = await withVault({ ...both, keys: both.keys.slice(0, 1) })
    expect((await admit(renewed, token(mine))).who.tenant).toBe('acme')
    await resealSigningKeys({ store, vault: renewed.vault, log })
    expect((await renewed.keys.live())[0]?.kid).toBe(kid)
  })
})

describe('a visit', () => {
  it('is over when its token has expired, by no more than clocks may differ', async () => {
    const { token: mine } = await router.mint({ ttlS: 60 })
    const { recheck } = await guard(token(mine))
    router.clock.now += 89_000
    await recheck()
    router.clock.now += 1_000
    await expect(recheck()).rejects.toThrow(/expired/)
  })
})
