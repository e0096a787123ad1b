import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ConfigError } from '../admin/apply-config.ts'
import { parseConfig, readConfig } from './config-file.ts'

const KEY = 'sk-test-canary-0123456789'
const PROVIDER = `[[providers]]\nid = "main"\nbase_url = "https://api.example.com"\n`
const toml = (text: string) => parseConfig(text, 'router.toml')
const refusal = (text: string, file = 'router.toml'): string => {
  try {
    parseConfig(text, file)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return 'taken'
}

describe('a config file', () => {
  it('may be empty, TOML or JSON', () => {
    expect(toml('')).toEqual({ providers: [], tenants: {}, issuers: [] })
    const config = toml(
      `${PROVIDER}api_key = "${KEY}"\nweight = 3\n[tenants.acme]\nlimits.budget.day_usd = 5\nrouting.failover = false\n`,
    )
    expect(config).toMatchObject({
      providers: [{ id: 'main', tenant: 'default', weight: 3, enabled: true }],
      tenants: { acme: { limits: { budget: { day_usd: 5 } } } },
    })
    expect(parseConfig(JSON.stringify(config), 'router.json')).toEqual(config)
  })

  it('is what the handbook shows', async () => {
    const handbook = await readFile(join(import.meta.dirname, '../../docs/operations.md'), 'utf8')
    const [, example = ''] = /```toml\n(.*?)```/s.exec(handbook) ?? []
    expect(toml(example)).toMatchObject({ providers: [{ id: 'main' }, { id: 'local' }], issuers: [{ id: 'ci', tenant: 'acme' }] })
    const page = await readFile(join(import.meta.dirname, '../../docs/compat/README.md'), 'utf8')
    const [, dialects = ''] = /```toml\n(.*?)```/s.exec(page) ?? []
    expect(toml(dialects)).toMatchObject({ compat: { ccs: { default_model: 'sonnet' }, claude_code_api: { anonymous: { tenant: 'guests' } } } })
  })

  it.each<[string, RegExp]>([
    ['colour = "red"', /^router\.toml: there is no setting colour; there are providers, tenants, issuers, compat, retention$/],
    [
      `${PROVIDER}api_key = "${KEY}"\ncolour = 1`,
      /^router\.toml: providers\.main: there is no setting colour; there are id, name, .*api_key_file/,
    ],
    [
      '[tenants.acme.limits.budget]\nhour_usd = 1',
      /^router\.toml: tenants\.acme\.limits\.budget: there is no setting hour_usd; there are total_usd, /,
    ],
    ['[tenants.acme.routing]\nstrategy = "fastest"', /^router\.toml: tenants\.acme\.routing\.strategy: /],
    ['[tenants."../x"]', /^router\.toml: tenants\.\.\.\/x: /],
    [PROVIDER, /^router\.toml: providers\.main\.api_key: is missing$/],
    [`${PROVIDER}api_key = "${KEY}"\napi_key_env = "X"`, /^router\.toml: providers\.main\.api_key_env: is one way too many/],
    [`${PROVIDER}api_key = "${KEY} "`, /^router\.toml: providers\.main\.api_key: has characters that no key has$/],
    [`${PROVIDER}api_key_env = "X"\n${PROVIDER}api_key_env = "X"`, /^router\.toml: providers\.main\.id: is there twice$/],
    ['[[providers]]\nid = "local"\napi_key_env = "X"', /does not belong to `local`/],
    [`[[providers]]\nid = "main"\napi_key = "${KEY}`, /^router\.toml: line \d+ is not valid TOML$/],
  ])('that says %j is refused by the name of the key', (text, message) => {
    expect(refusal(text)).toMatch(message)
    expect(refusal(text)).not.toContain(KEY)
  })

  it('is taken or refused in words, whatever it holds', () => {
    const line = fc.oneof(
      fc.string(),
      fc.constantFrom(
        ...PROVIDER.split('\n'),
        '[tenants.a]',
        'limits = {}',
        '[tenants.a.routing]',
        `api_key = "${KEY}"`,
        'weight = 3',
        'weight = nan',
        'env = { A = "b" }',
      ),
    )
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
        expect(refusal(lines.join('\n'))).not.toContain(KEY)
      }),
    )
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(refusal(text, 'router.json')).toMatch(/^(?:taken|router\.json)/)
      }),
    )
  })
})

describe('the key of a provider', () => {
  let dir: string
  let file: string
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'runyard-config-'))
    file = join(dir, 'router.toml')
  })
  afterAll(() => rm(dir, { recursive: true }))
  const put = async (text: string, mode = 0o600) => {
    await writeFile(file, text)
    await chmod(file, mode)
  }
  const reading = (env = {}) => readConfig(file, env)

  it('comes from the file, if nobody else can read that', async () => {
    await put(`${PROVIDER}api_key = "${KEY}"\n`)
    expect((await reading()).config.providers[0]?.api_key).toBe(KEY)
    await put(`${PROVIDER}api_key = "${KEY}"\n`, 0o644)
    await expect(reading()).rejects.toThrow(/holds a key and can be read by others \(mode 644\): `chmod 600` it/)
  })

  it('comes from another file beside it, or from the environment', async () => {
    await put(`${PROVIDER}api_key_file = "main.key"\n`, 0o644)
    await expect(reading()).rejects.toThrow(/providers\.main\.api_key_file: .*main\.key is not there/)
    await writeFile(join(dir, 'main.key'), `${KEY}\n`, { mode: 0o644 })
    await expect(reading()).rejects.toThrow(/main\.key holds a key and can be read by others/)
    await chmod(join(dir, 'main.key'), 0o600)
    const { keyOf, files } = await reading()
    expect([[...keyOf.values()], files]).toEqual([[KEY], [file, join(dir, 'main.key')]])
    await put(`${PROVIDER}api_key_env = "MAIN_KEY"\n`)
    await expect(reading()).rejects.toThrow(/providers\.main\.api_key_env: MAIN_KEY is empty or not set/)
    await expect(reading({ MAIN_KEY: 'short' })).rejects.toThrow(/MAIN_KEY: is shorter than 8 characters/)
    expect([...(await reading({ MAIN_KEY: KEY })).keyOf.values()]).toEqual([KEY])
  })

  it('makes another content when it changes', async () => {
    await put(`${PROVIDER}api_key_env = "MAIN_KEY"\n`)
    const [one, two] = [await reading({ MAIN_KEY: KEY }), await reading({ MAIN_KEY: `${KEY}2` })]
    expect(one.content).not.toBe(two.content)
  })
})
