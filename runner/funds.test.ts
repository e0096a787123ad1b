import { CompactEncrypt, generateKeyPair, type CryptoKey } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Offer } from '../shared/frames.ts'
import { SEALED_KEY_TYP, type Grant } from '../shared/grants.ts'
import { fundsFor, payerHeaders, type Treasury } from './funds.ts'

const RUN = `run_${'a'.repeat(32)}`
const KEY = 'sk-provider-key'

describe('who pays for a run', () => {
  let keys: { publicKey: CryptoKey; privateKey: CryptoKey }
  const logged: string[] = []
  beforeAll(async () => {
    keys = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  })

  const sealed = (header: object = {}, to: CryptoKey = keys.publicKey, key = KEY) =>
    new CompactEncrypt(new TextEncoder().encode(key))
      .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', typ: SEALED_KEY_TYP, run: RUN, provider: 'a', ...header })
      .encrypt(to)
  const grant = (more: Partial<Grant> = {}): Grant => ({ provider: 'a', version: 1, models: null, env: {}, model_map: {}, ...more })
  const remote = async (provider = 'a', base_url = 'https://api.example.com', more: Partial<Grant> = {}): Promise<Grant> =>
    grant({ provider, api: { base_url, sealed_key: await sealed({ provider }) }, ...more })
  const offer = (...providers: Grant[]): Offer => ({
    t: 'offer',
    id: 'o1',
    run: RUN,
    fence: 1,
    spec: { tenant: 'default', session: { mode: 'new', id: '0190a8c4-7c1e-4000-8000-000000000001' }, prompt: 'hi', timeout_s: 60 },
    ...(providers.length > 0 ? { grants: { providers, headers_timeout_ms: 60_000, failure_threshold: 3, recovery_ms: 30_000 } } : {}),
    start_by_ms: 15_000,
  })
  const funds = (given: Offer, more: Partial<Treasury> = {}) =>
    fundsFor(given, { provider: null, login: { kind: 'none' }, sealingKey: keys.privateKey, allowPrivateBaseUrls: false, log: (message) => logged.push(message), ...more })

  it('is the provider of the router, by a key that only this machine can open', async () => {
    const found = await funds(offer(await remote('a', 'https://api.example.com/anthropic', { env: { ANTHROPIC_MODEL: 'm', PATH: '/evil' }, model_map: { x: 'y' } })))
    expect(found).toMatchObject({
      kind: 'gateway',
      provider: 'a',
      env: { ANTHROPIC_MODEL: 'm', API_TIMEOUT_MS: '90000' },
      retries: 1,
      purse: { run: RUN, fence: 1, tenant: 'default', headersTimeoutMs: 60_000, account: { failureThreshold: 3, recoveryMs: 30_000 } },
    })
    if (found.kind !== 'gateway') return
    expect(found.env).not.toHaveProperty('PATH')
    expect(found.purse.payers[0]).toMatchObject({ headers: { 'x-api-key': KEY, authorization: `Bearer ${KEY}` }, modelMap: { x: 'y' }, mayBePrivate: false })
    expect(logged.at(-1)).toContain('not let in')
  })

  it.each([
    ['for another run', { run: `run_${'b'.repeat(32)}` }],
    ['for another provider', { provider: 'b' }],
    ['for another purpose', { typ: 'runyard-secret' }],
    ['without a purpose', { typ: undefined }],
  ])('is nobody by a key that was sealed %s', async (_what, header) => {
    const given = offer(grant({ api: { base_url: 'https://api.example.com', sealed_key: await sealed(header) } }))
    await expect(funds(given)).rejects.toMatchObject({ code: 'unknown_provider', message: expect.stringContaining('sealed') })
  })

  it('is nobody by a key of another machine, a broken one, or one that is no header', async () => {
    const other = await generateKeyPair('ECDH-ES', { crv: 'P-256' })
    for (const sealed_key of [await sealed({}, other.publicKey), 'a.b.c.d.e', 'x', await sealed({}, keys.publicKey, 'two\r\nlines')]) {
      const failed = funds(offer(grant({ api: { base_url: 'https://api.example.com', sealed_key } })))
      await expect(failed).rejects.toMatchObject({ code: 'unknown_provider', message: expect.not.stringContaining('lines') })
    }
  })

  it.each(['http://api.example.com', 'https://127.0.0.1:8443', 'https://169.254.169.254', 'https://localhost'])('is not %s without the word of the owner', async (url) => {
    const given = offer(await remote('a', url))
    await expect(funds(given)).rejects.toMatchObject({ code: 'policy', message: expect.stringContaining('allow_private_base_urls') })
    expect(await funds(given, { allowPrivateBaseUrls: true })).toMatchObject({ kind: 'gateway' })
  })

  it('is nobody with an address that carries something of its own', async () => {
    await expect(funds(offer(await remote('a', 'https://api.example.com/?key=1')), { allowPrivateBaseUrls: true })).rejects.toMatchObject({ code: 'unknown_provider' })
  })

  it.each([['600000', '600000'], ['5', '90000'], ['soon', '90000'], ['Infinity', '90000']])('with a timeout of %s waits %s ms', async (wanted, waits) => {
    expect(await funds(offer(await remote('a', undefined, { env: { API_TIMEOUT_MS: wanted } })))).toMatchObject({ env: { API_TIMEOUT_MS: waits } })
  })

  it('is the next of the grant when the owner forbids the first, with the env that all of them were chosen for', async () => {
    const found = await funds(offer(await remote('a', 'https://10.0.0.1', { env: { ANTHROPIC_MODEL: 'of-a' } }), await remote('b', undefined, { env: { ANTHROPIC_AUTH_TOKEN: '' } })))
    expect(found).toMatchObject({ provider: 'b', env: { ANTHROPIC_MODEL: 'of-a' }, purse: { payers: [{ provider: 'b', headers: { 'x-api-key': KEY } }] }, grants: [{ provider: 'b' }] })
    await expect(funds(offer(await remote('a', 'https://10.0.0.1'), await remote('b', 'http://api.example.com')))).rejects.toMatchObject({ code: 'policy', extra: { field: 'allow_private_base_urls' } })
    await expect(funds(offer(grant({ provider: 'local' }), await remote('b', 'https://10.0.0.1')))).rejects.toMatchObject({ code: 'policy' })
    await expect(funds(offer(await remote('a', 'https://x.example/?k=1'), await remote('b', 'https://10.0.0.1')))).rejects.toMatchObject({ code: 'policy' })
  })

  it('may be asked for the models of its grant, by what the CLI makes of their names, and carries its version', async () => {
    const env = { ANTHROPIC_DEFAULT_OPUS_MODEL: 'glm-5' }
    const found = await funds(offer(await remote('a', undefined, { env, models: ['opus'], version: 3 }), await remote('b', undefined, { models: ['opus'] }), await remote('c')))
    if (found.kind !== 'gateway') throw new Error('it goes past the gateway')
    expect(found.purse.payers.map(({ version, mayAsk }) => [version, mayAsk('glm-5'), mayAsk('claude-opus-4-8')])).toEqual([
      [3, true, false],
      [1, true, false],
      [1, true, true],
    ])
  })

  it('has the budget of the run in its purse', async () => {
    const given = offer(await remote())
    expect(await funds({ ...given, spec: { ...given.spec, max_budget_usd: 0.5 } })).toMatchObject({ purse: { maxBudgetUsd: 0.5 } })
  })

  it('leaves out one behind the first that the owner forbids', async () => {
    expect(await funds(offer(await remote('a'), await remote('b', 'https://10.0.0.1'), await remote('c')))).toMatchObject({
      purse: { payers: [{ provider: 'a' }, { provider: 'c' }] },
      env: { API_TIMEOUT_MS: '150000' },
    })
  })

  it('is the login of the machine without a grant, or when that comes first', async () => {
    const login = { provider: 'local' as const, login: { kind: 'login' as const, credentialsFile: '/c' } }
    expect(await funds(offer(), login)).toEqual({ kind: 'direct', provider: 'local', credentialsFile: '/c' })
    expect(await funds(offer(grant({ provider: 'local' }), await remote()), login)).toMatchObject({ kind: 'direct' })
    expect(await funds(offer(await remote(), grant({ provider: 'local' })), login)).toMatchObject({ provider: 'a', purse: { payers: [{ provider: 'a' }] } })
  })

  it('is the next of the grant where the machine has no login, and nobody without one', async () => {
    expect(await funds(offer(grant({ provider: 'local' }), await remote()))).toMatchObject({ provider: 'a' })
    for (const given of [offer(), offer(grant({ provider: 'local' }))]) {
      await expect(funds(given)).rejects.toMatchObject({ code: 'unknown_provider', message: 'this machine has no login of its own, and the router gave it no provider' })
    }
  })

  it('keeps a login of the environment at the gateway, with its address and headers', async () => {
    const env = { ANTHROPIC_AUTH_TOKEN: 'bearer-of-the-owner', ANTHROPIC_BASE_URL: 'http://127.0.0.1:9', ANTHROPIC_CUSTOM_HEADERS: 'X-Gateway-Key: another-secret' }
    const found = await funds(offer(), { provider: 'local', login: { kind: 'env', env } })
    expect(found).toMatchObject({ kind: 'gateway', provider: 'local', env: {} })
    if (found.kind !== 'gateway') return
    expect(found.purse.account).toBeUndefined()
    const [payer] = found.purse.payers
    expect(payer.mayAsk('anything')).toBe(true)
    expect(payer.headers).toEqual({ 'x-gateway-key': 'another-secret', authorization: 'Bearer bearer-of-the-owner' })
    expect([payer.mayBePrivate, payer.secrets]).toEqual([true, ['bearer-of-the-owner', 'another-secret']])
  })

  it('holds a login of the environment to the models of the run, granted or not', async () => {
    const login = { provider: 'local' as const, login: { kind: 'env' as const, env: { ANTHROPIC_API_KEY: 'sk-of-the-owner' } } }
    const given = offer()
    for (const narrowed of [{ ...given, spec: { ...given.spec, models: ['haiku'] } }, offer(grant({ provider: 'local', models: ['haiku'] }))]) {
      const found = await funds(narrowed, login)
      if (found.kind !== 'gateway') throw new Error('it goes past the gateway')
      expect(['claude-haiku-4-5', 'claude-opus-4-8'].map((model) => found.purse.payers[0].mayAsk(model))).toEqual([true, false])
    }
  })

  it('leaves an OAuth token and an address alone to the CLI', async () => {
    const envs: Record<string, string>[] = [{ CLAUDE_CODE_OAUTH_TOKEN: 'x' }, { ANTHROPIC_BASE_URL: 'http://127.0.0.1:9' }]
    for (const env of envs) expect(await funds(offer(), { provider: 'local', login: { kind: 'env', env } })).toMatchObject({ kind: 'direct', env })
  })
})

describe('the key of a provider', () => {
  const sent = (env: Record<string, string>, url = 'https://api.example.com') => payerHeaders(new URL(url), KEY, env)

  it('goes under both names, unless its env makes one of them empty', () => {
    expect(sent({})).toEqual({ 'x-api-key': KEY, authorization: `Bearer ${KEY}` })
    expect(sent({ ANTHROPIC_API_KEY: '' })).toEqual({ authorization: `Bearer ${KEY}` })
    expect(sent({ ANTHROPIC_AUTH_TOKEN: '', ANTHROPIC_CUSTOM_HEADERS: 'X-Org: o' })).toEqual({ 'x-api-key': KEY, 'x-org': 'o' })
  })

  it('goes to Anthropic’s own API as x-api-key, unless that is taken away', () => {
    expect(sent({}, 'https://api.anthropic.com')).toEqual({ 'x-api-key': KEY })
    expect(sent({ ANTHROPIC_API_KEY: '' }, 'https://api.anthropic.com')).toEqual({ authorization: `Bearer ${KEY}` })
    expect(sent({}, 'https://anthropic.com.example.org')).toHaveProperty('authorization')
  })
})
