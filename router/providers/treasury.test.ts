import { eq } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bindings, providers, runs } from '../../drizzle/schema.ts'
import { Grants } from '../../shared/grants.ts'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import { readBindings } from '../store/bindings.ts'

let rig: TreasuryRig
beforeEach(async () => {
  rig = await openTreasury()
})
afterEach(() => rig.close())

const SESSION = '11111111-1111-4111-8111-111111111111'
const resume = { session: SESSION, mode: 'resume' } as const
const boundTo = async () => (await readBindings(rig.database.db, TENANT, { limit: 100, now: rig.now })).find((b) => b.session === SESSION)?.provider
const first = (grants: Grants | undefined) => grants?.providers[0]?.provider
const rowOf = async (run: string) => (await rig.database.db.select().from(runs).where(eq(runs.id, run)))[0]
const open = (id: string, outcome: 'auth' | 'rate_limited' = 'rate_limited') =>
  rig.run().then((d) => rig.report(d, id, outcome, { retry_after_ms: 30_000 }))

describe('what a run is offered to pay with', () => {
  it('is nothing of ours where the tenant has no provider: the machine uses its own login', async () => {
    expect(await rig.grants(await rig.run())).toBeUndefined()
  })

  it('is a key that only its runner can open, for this run and provider', async () => {
    await rig.provider('main', { env: { API_TIMEOUT_MS: '1000' }, prices: { '*': { input: 1, output: 2 } } })
    const d = await rig.run()
    const grants = await rig.grants(d)
    const api = { base_url: 'https://main.example.com', sealed_key: expect.any(String) as string }
    expect(Grants.parse(grants)).toEqual({
      providers: [{ provider: 'main', version: 1, models: null, api, env: { API_TIMEOUT_MS: '1000' }, model_map: {}, prices: { '*': { input: 1, output: 2 } } }],
      headers_timeout_ms: 60_000,
      failure_threshold: 3,
      recovery_ms: 60_000,
    })
    const { key, header } = await rig.unseal(grants?.providers[0])
    expect(key).toBe('key-of-main')
    expect(header).toMatchObject({ alg: 'ECDH-ES', enc: 'A256GCM', typ: 'runyard-key', run: d.run, provider: 'main' })
  })

  it('is the login of the machine where an admin has put that into rotation', async () => {
    await rig.provider('local', { baseUrl: null })
    expect((await rig.grants(await rig.run()))?.providers).toEqual([{ provider: 'local', version: 1, models: null, env: {}, model_map: {} }])
  })

  it.each<[string, object, string]>([
    ['every provider is disabled', { enabled: false }, 'every provider is disabled'],
    ['none is for its pool', { pools: ['gpu'] }, 'no provider may be used by the pool default'],
    ['none serves its model', { models: ['haiku'] }, 'no provider serves the model opus'],
  ])('is a fault that says so when %s', async (_when, more, message) => {
    await rig.provider('main', more)
    await expect(rig.grants(await rig.run({ model: 'opus' }))).rejects.toMatchObject({ code: 'unknown_provider', message })
  })

  it('leaves out a provider whose key cannot be opened, and names it when there is no other', async () => {
    await rig.provider('good')
    await rig.provider('moved')
    await rig.database.db.update(providers).set({ version: 2 }).where(eq(providers.id, 'moved'))
    rig.now += 10_000
    for (let i = 0; i < 3; i++) expect(await rig.line()).toEqual(['good'])
    await rig.database.db.update(providers).set({ enabled: false }).where(eq(providers.id, 'good'))
    rig.now += 10_000
    await expect(rig.line()).rejects.toMatchObject({ code: 'unknown_provider', message: expect.stringContaining('provider moved') as string })
    expect(rig.logged.join()).not.toContain('key-of')
  })
})

describe('the shares of providers', () => {
  it('are 300 to 100 of 400 runs by weight, and 75 to 25 of any hundred of them', async () => {
    await rig.provider('a', { weight: 3 })
    await rig.provider('b')
    const chosen: (string | undefined)[] = []
    for (let i = 0; i < 400; i++) chosen.push((await rig.line())[0])
    const of = (list: (string | undefined)[]) => list.filter((id) => id === 'a').length
    expect(of(chosen)).toBe(300)
    expect(Array.from({ length: 301 }, (_, i) => of(chosen.slice(i, i + 100)))).toEqual(Array.from({ length: 301 }, () => 75))
  })

  it('are kept by replicas together', async () => {
    await rig.provider('a', { weight: 3 })
    await rig.provider('b')
    const other = await rig.replica()
    const offers = await Promise.all(Array.from({ length: 40 }, () => rig.run()))
    const chosen = await Promise.all(offers.map((d, i) => rig.grants(d, i % 2 ? other : rig.treasury)))
    expect(chosen.filter((grants) => first(grants) === 'a')).toHaveLength(30)
  })

  it('are kept by each kind of run for itself, also when the kinds alternate', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await rig.provider('c', { models: ['haiku'] })
    const chosen: Record<string, number> = {}
    for (let i = 0; i < 12; i++) {
      const model = i % 2 ? 'haiku' : 'opus'
      const id = `${model} ${first(await rig.grants(await rig.run({ model })))}`
      chosen[id] = (chosen[id] ?? 0) + 1
    }
    expect(chosen).toEqual({ 'opus a': 3, 'opus b': 3, 'haiku a': 2, 'haiku b': 2, 'haiku c': 2 })
  })

  it('are equal in turn, whatever the weights, by round-robin', async () => {
    await rig.provider('a', { weight: 10 })
    await rig.provider('b')
    await rig.routing({ strategy: 'round-robin' })
    expect([await rig.line(), await rig.line(), await rig.line()].map(([id]) => id)).toEqual(['a', 'b', 'a'])
  })

  it('follow the live runs for their weights by least-busy, also when many choose at once', async () => {
    await rig.provider('a', { weight: 3 })
    await rig.provider('b')
    await rig.routing({ strategy: 'least-busy' })
    const other = await rig.replica()
    const offers = await Promise.all(Array.from({ length: 40 }, () => rig.run()))
    const chosen = await Promise.all(offers.map((d, i) => rig.grants(d, i % 2 ? other : rig.treasury)))
    expect(chosen.filter((grants) => first(grants) === 'a')).toHaveLength(30)
    await rig.database.db.update(runs).set({ endedAt: 2, state: 'succeeded' }).where(eq(runs.provider, 'a'))
    const next = [await rig.line(), await rig.line(), await rig.line()]
    expect(next.map(([id]) => id)).toEqual(['a', 'a', 'a'])
  })
})

describe('a session', () => {
  it('stays with its provider, on every replica, for as long as it is used', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await rig.routing({ binding_ttl_s: 100 })
    const other = await rig.replica()
    const its = first(await rig.grants(await rig.run({ session: SESSION })))
    for (let i = 0; i < 6; i++) {
      rig.now += 90_000
      expect(first(await rig.grants(await rig.run(resume), i % 2 ? other : rig.treasury))).toBe(its)
    }
    rig.now += 100_001
    expect(await boundTo()).toBeUndefined()
    const later = await Promise.all([await rig.run(resume), await rig.run()].map((d) => rig.grants(d)))
    expect(new Set(later.map(first))).toEqual(new Set(['a', 'b']))
  })

  it('moves when its provider is out of order, and stays where it went', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await rig.grants(await rig.run({ session: SESSION }))
    expect(await boundTo()).toBe('a')
    await open('a')
    expect(first(await rig.grants(await rig.run(resume)))).toBe('b')
    rig.now += 60_000
    const probe = await rig.run()
    expect(first(await rig.grants(probe))).toBe('a')
    await rig.report(probe, 'a', 'ok')
    expect(first(await rig.grants(await rig.run(resume)))).toBe('b')
  })

  it('moves when its run found its answer elsewhere, once', async () => {
    await rig.provider('a')
    await rig.provider('b')
    const d = await rig.run({ session: SESSION })
    await rig.grants(d)
    await rig.report(d, 'a', 'ok')
    expect(await boundTo()).toBe('a')
    await rig.report(d, 'a', 'server')
    await rig.report(d, 'b', 'ok')
    expect(await boundTo()).toBe('b')
    await rig.report(d, 'a', 'ok')
    expect(await boundTo()).toBe('b')
  })

  it('does not move for the sake of one model that its provider has not got', async () => {
    await rig.provider('a')
    await rig.provider('b')
    const d = await rig.run({ session: SESSION })
    await rig.grants(d)
    await rig.report(d, 'a', 'not_found', { model: 'haiku' })
    await rig.report(d, 'b', 'ok', { model: 'haiku' })
    expect(await boundTo()).toBe('a')
    const next = await rig.run(resume)
    await rig.grants(next)
    await rig.report(next, 'b', 'ok', { model: 'haiku' })
    expect(await boundTo()).toBe('a')
    await rig.report(next, 'a', 'overloaded')
    await rig.report(next, 'b', 'ok')
    expect(await boundTo()).toBe('b')
  })

  it('moves also when the router was restarted since its run was offered', async () => {
    await rig.provider('a')
    await rig.provider('b')
    const d = await rig.run({ session: SESSION })
    await rig.grants(d)
    const other = await rig.replica()
    await rig.report(d, 'b', 'ok', {}, other)
    expect(await boundTo()).toBe('b')
  })

  it('of another tenant is not bound, read or moved', async () => {
    await rig.provider('a')
    await rig.database.db.insert(bindings).values({ session: SESSION, tenant: 'other', provider: 'x', createdAt: 1, expiresAt: rig.now * 2 })
    const d = await rig.run(resume)
    expect(first(await rig.grants(d))).toBe('a')
    await rig.report(d, 'a', 'ok')
    expect(await rig.database.db.select().from(bindings)).toMatchObject([{ tenant: 'other', provider: 'x' }])
  })
})

describe('providers out of order', () => {
  it('are passed by, and behind the others for the gateway, which is told for how long', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await open('a')
    rig.now += 10_000
    const grants = await rig.grants(await rig.run())
    expect(grants?.providers.map((p) => [p.provider, p.open_ms])).toEqual([
      ['b', undefined],
      ['a', 20_000],
    ])
    await open('a', 'auth')
    expect((await rig.grants(await rig.run()))?.providers[1]?.open_ms).toBeNull()
  })

  it('open after as many failures in a row as the tenant has set', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await rig.routing({ failure_threshold: 2 })
    const d = await rig.run()
    await rig.grants(d)
    for (const outcome of ['server', 'ok', 'timeout', 'caller', 'cancelled'] as const) await rig.report(d, 'a', outcome)
    expect(await rig.health('a')).toMatchObject({ state: 'closed', failures: 1 })
    await rig.report(d, 'a', 'unreachable')
    expect(await rig.health('a')).toMatchObject({ state: 'open', openUntil: rig.now + 60_000, reason: 'unreachable' })
  })

  it('are used when there is no other, which the run’s row says, and its session goes back afterwards', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await rig.grants(await rig.run({ session: SESSION }))
    await open('a', 'auth')
    await open('b')
    const d = await rig.run(resume)
    expect(first(await rig.grants(d))).toBe('b')
    expect(await rowOf(d.run)).toMatchObject({ degraded: true, provider: 'b' })
    await rig.report(d, 'b', 'ok')
    expect(await boundTo()).toBe('a')
    expect(await rig.health('b')).toMatchObject({ state: 'open' })
    rig.now += 60_000
    await rig.grants(d)
    expect(await rowOf(d.run)).toMatchObject({ degraded: null })
  })

  it('are tried again by exactly one run, over all replicas, and come back when that went well', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await open('a')
    rig.now += 30_000
    const other = await rig.replica()
    const offers = await Promise.all(Array.from({ length: 20 }, () => rig.run()))
    const grants = await Promise.all(offers.map((d, i) => rig.grants(d, i % 2 ? other : rig.treasury)))
    const probes = grants.flatMap((g, i) => (first(g) === 'a' ? [i] : []))
    expect(probes).toHaveLength(1)
    expect(grants.flatMap((g) => g?.providers ?? []).filter((p) => p.provider === 'a' && p.open_ms === undefined)).toHaveLength(1)
    await rig.report(offers.find((_, i) => !probes.includes(i))!, 'a', 'ok')
    expect(await rig.health('a')).toMatchObject({ state: 'half_open' })
    await rig.report(offers[probes[0]!]!, 'a', 'ok', {}, probes[0]! % 2 ? other : rig.treasury)
    expect(await rig.health('a')).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('stay out when the one that tried has failed', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await open('a')
    rig.now += 30_000
    const d = await rig.run()
    expect(first(await rig.grants(d))).toBe('a')
    await rig.report(d, 'a', 'overloaded', { status: 529 })
    expect(await rig.health('a')).toMatchObject({ state: 'open', openUntil: rig.now + 60_000, reason: 'overloaded (529)' })
    expect((await rig.line())[0]).toBe('b')
  })

  it('are for the next one to try when the run was refused by its runner, and again when nothing was ever heard', async () => {
    await rig.provider('a')
    await rig.provider('b')
    await open('a')
    rig.now += 30_000
    const d = await rig.run()
    expect([first(await rig.grants(d)), first(await rig.grants(d))]).toEqual(['a', 'a'])
    expect((await rig.line())[0]).toBe('b')
    rig.now += 90_000
    expect((await rig.line())[0]).toBe('a')
  })

  it('for one model only are told as such, and tried again by whoever asks for it next', async () => {
    await rig.provider('a')
    await rig.provider('b')
    const d = await rig.run()
    await rig.grants(d)
    await rig.report(d, 'a', 'forbidden', { model: 'claude-opus-4-8' })
    await rig.report(d, 'a', 'not_found', { model: '--nonsense' })
    expect(first(await rig.grants(await rig.run({ model: 'claude-opus-4-8' })))).toBe('b')
    const opened = async () => (await rig.grants(await rig.run({ model: 'opus' })))?.providers.find((p) => p.provider === 'a')?.open_models
    expect(await opened()).toEqual({ 'claude-opus-4-8': 60_000 })
    rig.now += 60_000
    // Which model the alias stands for only the CLI knows, so nobody claims it.
    expect([await opened(), await opened()]).toEqual([undefined, undefined])
    await rig.report(d, 'a', 'not_found', { model: 'claude-opus-4-8' })
    expect(await opened()).toEqual({ 'claude-opus-4-8': 60_000 })
    rig.now += 60_000
    await rig.report(d, 'a', 'ok', { model: 'claude-opus-4-8' })
    expect(await rig.health('a', 'claude-opus-4-8')).toBeUndefined()
  })
})
