import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openTreasury, TENANT, type TreasuryRig } from '../../test/kit/treasury.ts'
import { readBindings } from '../store/bindings.ts'

let rig: TreasuryRig
beforeEach(async () => {
  rig = await openTreasury()
})
afterEach(() => rig.close())

const SESSION = '11111111-1111-4111-8111-111111111111'
const FORBIDS = { policy: { allow_private_base_urls: false } }
const ids = (grants: Awaited<ReturnType<TreasuryRig['offer']>>) => grants?.providers.map(({ provider }) => provider)

describe('what a machine can pay with', () => {
  it('is not its login when it has none', async () => {
    await rig.provider('local', { baseUrl: null })
    await expect(rig.offer(await rig.run(), { provider: null })).rejects.toMatchObject({
      code: 'unknown_provider',
      message: 'provider local is the login of the machine, and this one has none',
    })
    await rig.provider('main')
    for (let i = 0; i < 4; i++) expect(ids(await rig.offer(await rig.run(), { provider: null }))).toEqual(['main'])
    const both = [ids(await rig.offer(await rig.run()))?.[0], ids(await rig.offer(await rig.run()))?.[0]]
    expect(new Set(both)).toEqual(new Set(['local', 'main']))
  })

  it.each(['http://api.example.com', 'https://10.0.0.7', 'https://127.0.0.1:8443', 'https://localhost'])('is not %s when its owner forbids that', async (baseUrl) => {
    await rig.provider('near', { baseUrl })
    await expect(rig.offer(await rig.run(), FORBIDS)).rejects.toMatchObject({
      code: 'policy',
      message: 'provider near has a private address or plain http; allow_private_base_urls is not set on this machine',
      extra: { field: 'allow_private_base_urls' },
    })
    expect(ids(await rig.offer(await rig.run(), { policy: { allow_private_base_urls: true } }))).toEqual(['near'])
    expect(ids(await rig.offer(await rig.run()))).toEqual(['near'])
    await rig.provider('far')
    for (let i = 0; i < 4; i++) expect(ids(await rig.offer(await rig.run(), FORBIDS))).toEqual(['far'])
  })

  it('blames the owner only where nothing else is in the way', async () => {
    await rig.provider('near', { baseUrl: 'http://10.0.0.7' })
    await rig.provider('local', { baseUrl: null })
    await expect(rig.offer(await rig.run(), { ...FORBIDS, provider: null })).rejects.toMatchObject({ code: 'unknown_provider' })
  })
})

describe('what a run may ask a provider for', () => {
  const models = async (more: object, narrowed?: string[]) => {
    await rig.provider('main', more)
    const d = await rig.run({ model: narrowed?.[0] ?? 'opus' })
    const grants = await rig.offer({ ...d, spec: { ...d.spec, ...(narrowed && { models: narrowed }) } })
    return grants?.providers[0]?.models
  }

  it('is anything where neither provider nor token says', async () => expect(await models({})).toBeNull())
  it('is what the provider has, and what it has another name for', async () => {
    expect(await models({ models: ['opus', 'haiku'], modelMap: { 'claude-sonnet-4-6': 'glm' } })).toEqual(['opus', 'haiku', 'claude-sonnet-4-6'])
  })
  it('is what the token is for', async () => expect(await models({}, ['claude-sonnet-4-5'])).toEqual(['claude-sonnet-4-5']))
  it('is what both are for, by the narrower name', async () => {
    const env = { ANTHROPIC_DEFAULT_OPUS_MODEL: 'glm-5' }
    expect(await models({ models: ['haiku', 'sonnet', 'glm-5', 'claude-sonnet-4-5'], env }, ['claude-sonnet-4-5', 'opus'])).toEqual(['glm-5', 'claude-sonnet-4-5'])
  })
})

describe('a long line of providers', () => {
  it('is cut to what a grant holds, seals no more keys than that, and has short turns', { timeout: 30_000 }, async () => {
    for (let i = 0; i < 60; i++) await rig.provider(`p${i}`, { weight: 1 + (i % 10), env: { X: '1', ANTHROPIC_CUSTOM_HEADERS: `x-org: ${i}`, ANTHROPIC_AUTH_TOKEN: '' } })
    const [one, two] = [await rig.offer(await rig.run()), await rig.offer(await rig.run())]
    expect(one?.providers).toHaveLength(32)
    expect(new Set(ids(one)).size).toBe(32)
    expect(ids(two)).not.toEqual(ids(one))
    expect(one?.providers[0]?.env['X']).toBe('1')
    const behind = one!.providers.slice(1)
    expect(behind.map(({ env }) => Object.keys(env))).toEqual(behind.map(() => ['ANTHROPIC_CUSTOM_HEADERS', 'ANTHROPIC_AUTH_TOKEN']))
    const counters = await rig.database.db.query.counters.findMany()
    expect(Math.max(...counters.map(({ id }) => id.length))).toBeLessThan(64)
  })
})

describe('a run that was offered and refused', () => {
  const bound = async () => (await readBindings(rig.database.db, TENANT, { limit: 10, now: rig.now })).map(({ provider }) => provider)

  it('has not bound its session, and one that begins has', async () => {
    await rig.provider('a')
    const d = await rig.run({ session: SESSION })
    await rig.offer(d)
    rig.treasury.over(d)
    await rig.treasury.settled()
    expect(await bound()).toEqual([])
    await rig.offer(d)
    rig.treasury.begun(d)
    await rig.treasury.settled()
    expect(await bound()).toEqual(['a'])
  })

  it('leaves what it was to try to the next one, and so does one that ends without a word', async () => {
    await rig.provider('a')
    await rig.provider('b')
    const d = await rig.run()
    await rig.grants(d)
    await rig.report(d, 'a', 'rate_limited', { retry_after_ms: 1_000 })
    rig.now += 1_000
    for (let i = 0; i < 3; i++) {
      const probe = await rig.run()
      expect(ids(await rig.grants(probe))?.[0]).toBe('a')
      expect((await rig.line())[0]).toBe('b')
      rig.treasury.over(probe)
      await rig.treasury.settled()
    }
  })
})

describe('a breaker that is being tried', () => {
  const openA = async (more = {}) => {
    await rig.provider('a')
    await rig.provider('b')
    const d = await rig.run()
    await rig.grants(d)
    await rig.report(d, 'a', 'rate_limited', { retry_after_ms: 1_000, ...more })
    rig.now += 1_000
    return d
  }

  it('closes when the answer begins, however long it takes', async () => {
    await openA()
    const probe = await rig.run()
    await rig.grants(probe)
    await rig.report(probe, 'a', 'ok', { stage: 'headers' })
    expect(await rig.health('a')).toMatchObject({ state: 'closed', requests: 1 })
    await rig.report(probe, 'a', 'ok', { stage: 'end' })
    expect(await rig.health('a')).toMatchObject({ state: 'closed', requests: 2 })
  })

  it('closes when whoever was to try it first gets its answer after somebody else was let in', async () => {
    await openA()
    const slow = await rig.run()
    await rig.grants(slow)
    rig.now += 90_000
    expect((await rig.line())[0]).toBe('a')
    await rig.report(slow, 'a', 'ok', { stage: 'headers' })
    expect(await rig.health('a')).toMatchObject({ state: 'closed' })
  })

  it('of a model is not claimed by runs of another one', async () => {
    await rig.provider('a')
    await rig.provider('b')
    const first = await rig.run({ model: 'claude-y' })
    await rig.grants(first)
    await rig.report(first, 'a', 'not_found', { model: 'claude-y' })
    rig.now += 60_000
    for (let i = 0; i < 4; i++) await rig.grants(await rig.run({ model: 'claude-x' }))
    expect(await rig.health('a', 'claude-y')).toMatchObject({ state: 'open' })
    const its = await rig.run({ model: 'claude-y' })
    expect(ids(await rig.grants(its))?.[0]).toBe('a')
    expect(await rig.health('a', 'claude-y')).toMatchObject({ state: 'half_open' })
    await rig.report(its, 'a', 'ok', { model: 'claude-other', stage: 'headers' })
    expect(await rig.health('a', 'claude-y')).toMatchObject({ state: 'open' })
    expect(ids(await rig.grants(await rig.run({ model: 'claude-y' })))?.[0]).toBe('a')
  })

  it('is not touched by what is said of a key that is not its any more', async () => {
    await rig.provider('a', { version: 2 })
    const d = await rig.run()
    await rig.grants(d)
    for (const outcome of ['auth', 'server', 'rate_limited', 'forbidden'] as const) await rig.report(d, 'a', outcome, { version: 1 })
    expect(await rig.healthRows()).toMatchObject([{ model: '', state: 'closed', failures: 0, requests: 4, failed: 4 }])
    await rig.report(d, 'a', 'auth', { version: 2 })
    expect(await rig.health('a')).toMatchObject({ state: 'open' })
  })
})
