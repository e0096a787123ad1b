import { sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { audit } from '../../drizzle/schema.ts'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import { newKeyRing, openVault, withNewKey } from '../guard/vault.ts'
import type { Log } from '../ports.ts'
import { healthView } from '../providers/health-view.ts'
import { keyContext, openKey, resealAll, sealKey } from '../providers/keys.ts'
import { auditStatement } from './audit.ts'
import { bindStatement, boundSessions, deleteBinding, findBinding, pruneBindings, readBindings } from './bindings.ts'
import { takeTurn } from './counters.ts'
import { readHealth, resetHealth } from './provider-health.ts'
import { deleteProvider, findProvider, insertProvider, readProviders, updateProvider, type ProviderRow } from './providers.ts'

let rig: TreasuryRig
let row: ProviderRow
let count = 0
beforeEach(async () => {
  rig = await openTreasury()
  row = await rig.provider('p')
})
afterEach(() => rig.close())

const db = () => rig.database.db
const because = (action: string) =>
  auditStatement(db(), { now: () => rig.now, id: () => `a${++count}` }, { subject: 'admin', jti: 'j' }, { tenant: TENANT, action, target: 'provider/p' })
const audited = async () => (await db().select({ action: audit.action }).from(audit)).map((a) => a.action)
const log: Log = { info: () => undefined, warn: () => undefined, error: (fields, message) => rig.logged.push(`${message} ${JSON.stringify(fields)}`) }

describe('a change of a provider', () => {
  it('comes with its audit row, or not at all', async () => {
    expect(await insertProvider(rig.database, { ...row, id: 'q' }, because('create'))).toBe(true)
    expect(await insertProvider(rig.database, { ...row, id: 'q', name: 'other' }, because('create again'))).toBe(false)
    expect(await findProvider(db(), TENANT, 'q')).toMatchObject({ name: 'p' })
    expect(await findProvider(db(), 'other', 'q')).toBeUndefined()
    expect(await audited()).toEqual(['create'])
  })

  it('is refused to who has not seen the newest one', async () => {
    const now = row.updatedAt
    const one = await updateProvider(rig.database, row, { weight: 7 }, now, because('weigh'))
    expect(one).toMatchObject({ weight: 7, updatedAt: now + 1 })
    expect(await updateProvider(rig.database, row, { weight: 9 }, now, because('weigh late'))).toBeUndefined()
    expect(await deleteProvider(rig.database, row, because('delete late'))).toBe(false)
    expect(await findProvider(db(), TENANT, 'p')).toEqual(one)
    expect(await deleteProvider(rig.database, one!, because('delete'))).toBe(true)
    expect(await updateProvider(rig.database, one!, { weight: 1 }, now, because('too late'))).toBeUndefined()
    expect(await audited()).toEqual(['weigh', 'delete'])
    expect(await readProviders(db(), TENANT)).toEqual([])
  })

  it('takes what was known of it along when it is deleted', async () => {
    await rig.report(await rig.run(), 'p', 'server')
    await rig.grants(await rig.run())
    await takeTurn(db(), `choice/${TENANT}/p,q`)
    await takeTurn(db(), `choice/${TENANT}0/p,q`)
    await deleteProvider(rig.database, row, because('delete'))
    expect(await readHealth(db(), TENANT)).toEqual([])
    expect(await readBindings(db(), TENANT, { limit: 9, now: 0 })).toEqual([])
    expect(await db().all(sql`SELECT id FROM counters`)).toEqual([{ id: `choice/${TENANT}0/p,q` }])
  })

  it.each<[string, Partial<ProviderRow>, boolean]>([
    ['a new key', { version: 2 }, true],
    ['its being enabled again', { enabled: true }, true],
    ['another weight', { weight: 2 }, false],
  ])('closes its breakers or not: %s', async (_what, change, closes) => {
    const was = (await updateProvider(rig.database, row, { enabled: false }, rig.now, because('disable')))!
    await rig.report(await rig.run(), 'p', 'auth')
    await rig.report(await rig.run(), 'p', 'not_found')
    await updateProvider(rig.database, was, change, rig.now, because('change'))
    expect((await readHealth(db(), TENANT)).map((h) => h.state)).toEqual(closes ? ['closed'] : ['open', 'open'])
  })
})

describe('what is shown of a provider', () => {
  it('is its breaker, those of its models and its sums', async () => {
    expect(healthView([])).toMatchObject({ state: 'closed', consecutive_failures: 0, requests: 0, latency_ms: null, models: [] })
    const d = await rig.run()
    await rig.report(d, 'p', 'ok', { latency_ms: 12.6, tokens: { input_tokens: 5, output_tokens: 6, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 } })
    await rig.report(d, 'p', 'not_found', { model: 'opus', status: 404 })
    await rig.report(d, 'p', 'auth', { status: 401 })
    const until = new Date(rig.now + 60_000).toISOString()
    expect(healthView(await readHealth(db(), TENANT))).toEqual({
      state: 'open',
      consecutive_failures: 1,
      open_until: null,
      reason: 'auth (401)',
      requests: 3,
      failed: 2,
      latency_ms: 13,
      input_tokens: 5,
      output_tokens: 6,
      models: [{ model: 'opus', state: 'open', open_until: until, reason: 'not_found (404)' }],
    })
    await resetHealth(rig.database, TENANT, 'p', rig.now, because('reset'))
    expect(healthView(await readHealth(db(), TENANT))).toMatchObject({ state: 'closed', consecutive_failures: 0, reason: null, requests: 3, failed: 2, models: [] })
    expect(await audited()).toEqual(['reset'])
  })
})

describe('the sessions that are bound', () => {
  it('are listed by page and provider, counted, taken away and forgotten, each tenant’s for itself', async () => {
    const bind = (session: string, provider: string, tenant = TENANT, expiresAt = 100) => bindStatement(db(), { session, provider, tenant, createdAt: 1, expiresAt })
    await rig.database.batch([bind('s1', 'p'), bind('s2', 'q'), bind('s3', 'p'), bind('s4', 'p', TENANT, 50), bind('s5', 'p', 'other')])
    const page = async (more: object) => (await readBindings(db(), TENANT, { limit: 2, now: 60, ...more })).map((b) => b.session)
    expect([await page({}), await page({ after: 's2' }), await page({ provider: 'p', limit: 9 })]).toEqual([['s1', 's2'], ['s3'], ['s1', 's3']])
    expect(await boundSessions(db(), TENANT, 60)).toEqual(new Map([['p', 2], ['q', 1]]))
    await deleteBinding(rig.database, TENANT, 's5', because('unbind'))
    await deleteBinding(rig.database, TENANT, 's1', because('unbind'))
    await pruneBindings(db(), 60)
    expect(await findBinding(db(), TENANT, 's1', 0)).toBeUndefined()
    expect(await findBinding(db(), TENANT, 's4', 0)).toBeUndefined()
    expect(await findBinding(db(), 'other', 's5', 60)).toMatchObject({ provider: 'p' })
  })
})

describe('a key at rest', () => {
  const place = { tenant: TENANT, id: 'p', version: 1 }

  it('is known by its end and a fingerprint, the same for the same key only', async () => {
    const vault = await openVault(rig.ring)
    const sealed = await sealKey(vault, place, 'sk-ant-0123456789')
    expect(sealed).toMatchObject({ sealedBy: 'first', keyTail: '6789', keyPrint: expect.stringMatching(/^[0-9a-f]{16}$/) as string })
    expect(JSON.stringify(sealed)).not.toContain('sk-ant')
    expect((await sealKey(vault, { ...place, id: 'q' }, 'sk-ant-0123456789')).keyPrint).toBe(sealed.keyPrint)
    const short = await sealKey(vault, place, 'short')
    expect(short.keyTail).toBe('')
    expect(short.keyPrint).not.toBe(sealed.keyPrint)
    expect(await vault.open(keyContext(place), sealed.sealedKey)).toBe('sk-ant-0123456789')
  })

  it('is sealed anew by the newest master key, page by page, and what nobody can open is left as it is', async () => {
    for (let i = 0; i < 60; i++) await rig.provider(`q${i}`)
    const foreign = await rig.provider('z', { sealedBy: 'gone', sealedKey: await (await openVault(newKeyRing('gone'))).seal('x', 'y') })
    await rig.provider('local', { baseUrl: null })
    const ring = withNewKey(rig.ring, 'second')
    const vault = await openVault(ring)
    expect(await resealAll({ store: rig.database, vault, log })).toEqual({ sealed: 61, lost: 1 })
    expect(await resealAll({ store: rig.database, vault, log })).toEqual({ sealed: 0, lost: 1 })
    const rows = await readProviders(db(), TENANT)
    expect(rows.find((r) => r.id === 'z')?.sealedKey).toBe(foreign.sealedKey)
    const alone = await openVault({ ...ring, keys: ring.keys.slice(0, 1) })
    const sealed = rows.filter((r) => r.id !== 'z' && r.sealedKey !== null)
    expect(await Promise.all(sealed.map((r) => openKey(alone, r)))).toEqual(sealed.map((r) => `key-of-${r.id}`))
    expect(rig.logged.join()).not.toContain('key-of')
  })
})
