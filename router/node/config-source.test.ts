import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockWrites } from '../../test/kit/lock.ts'
import { until } from '../../test/kit/wait.ts'
import { findIssuer } from '../store/issuers.ts'
import { readAudit } from '../store/audit-pages.ts'
import { readProviders } from '../store/providers.ts'
import { startRouter, type RunningRouter } from './server.ts'

const KEY = 'sk-test-canary-0123456789'
let dir: string
let file: string
let router: RunningRouter | undefined
let said: string[]
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-config-'))
  file = join(dir, 'router.toml')
  said = []
})
afterEach(async () => {
  await router?.close()
  router = undefined
  await rm(dir, { recursive: true })
})

const start = async (required = false) => {
  const hear = (_fields: object, message: string) => void said.push(message)
  const log = { info: hear, warn: hear, error: hear }
  router = await startRouter({
    dataDir: join(dir, 'data'),
    host: '127.0.0.1',
    port: 0,
    allowedHosts: [],
    corsOrigins: [],
    timeoutS: 60,
    configFile: { path: file, required },
    log,
  })
  return router
}
/** As editors do it: whole or not at all. */
const put = async (text: string) => {
  await writeFile(`${file}.new`, text, { mode: 0o600 })
  await rename(`${file}.new`, file)
}
const provider = (more = '') => `[[providers]]\nid = "main"\nbase_url = "https://api.example.com"\napi_key = "${KEY}"\n${more}`
const weights = async () => (await readProviders(router!.deps.store.db, 'default')).map(({ id, weight }) => [id, weight])
const weightIs = (weight: number) => until(`the weight to be ${weight}`, async () => (await weights())[0]?.[1] === weight)
const audited = () =>
  readAudit(router!.deps.store.db, 'default', {
    action: undefined,
    target: 'provider/main',
    since: undefined,
    after: undefined,
    limit: 10,
  })

describe('the config file of a router', () => {
  it('seeds the settings at the start, and says in the audit that it did', async () => {
    await put(provider('weight = 3\n[tenants.acme.limits]\nconcurrent_runs = 2\n'))
    const { deps } = await start(true)
    expect(await deps.catalog.providers('default')).toMatchObject([{ id: 'main', weight: 3 }])
    expect((await deps.catalog.tenant('acme'))?.settings).toEqual({ limits: { concurrent_runs: 2 } })
    expect(await audited()).toMatchObject([{ action: 'provider.create', actor: 'file' }])
  })

  it('trusts the issuers that it names, and does not let one speak for somebody else', async () => {
    const issuer = (tenant: string, value = 'acme/app') =>
      [
        '[[issuers]]',
        'id = "ci"',
        'url = "https://idp.example"',
        'audience = "us"',
        `tenant = "${tenant}"`,
        'mapping.scopes = ["runs:read"]',
        `mapping.require = [{ claim = "repository", is = "${value}" }]`,
      ].join('\n')
    await put(issuer('acme'))
    const { deps } = await start(true)
    expect(await findIssuer(deps.store.db, 'ci')).toMatchObject({
      tenant: 'acme',
      enabled: true,
      mapping: { subject: 'sub', scopes: ['runs:read'] },
    })
    await put(issuer('acme', 'acme/other'))
    expect(await deps.config!.reload()).toMatchObject({ changes: ['issuer/ci: changed'] })
    expect(await deps.config!.reload(true)).toMatchObject({ changes: [] })
    await put(issuer('blue'))
    await expect(deps.config!.reload()).rejects.toThrow(/issuer\/ci: tenant: is acme already/)
  })

  it('sets the dialects that it names, and leaves the others as they are', async () => {
    await put('[compat.ccs]\nenabled = false\n')
    const { deps } = await start(true)
    await put('[tenants.guests]\nname = "Guests"\n[compat.claude_code_api]\nanonymous = { tenant = "guests" }\n')
    expect((await deps.config!.reload()).changes).toEqual(['tenant/guests: created', 'compat/claude_code_api: changed'])
    expect((await deps.config!.reload(true)).changes).toEqual([])
    expect(await deps.catalog.compat()).toMatchObject({
      ccs: { enabled: false, timeout_s: 300 },
      claude_code_api: { enabled: true, anonymous: { tenant: 'guests' } },
    })
    await put('[compat.claude_code_api]\nanonymous = { tenant = "nowhere" }\n')
    await expect(deps.config!.reload()).rejects.toThrow(/^compat: no tenant nowhere$/)
  })

  it('is followed when it changes, also where it was not there before', async () => {
    await start()
    expect(await weights()).toEqual([])
    await put(provider())
    await weightIs(1)
    await put(provider('weight = 4\n'))
    await weightIs(4)
    expect(await audited()).toMatchObject([{ action: 'provider.update', before: { weight: 1 }, after: { weight: 4 } }, {}])
  })

  it('leaves what the API changed alone until it changes itself, over a restart too', async () => {
    await put(provider())
    const { deps } = await start()
    await deps.store.db.run("UPDATE providers SET weight = 9 WHERE id = 'main'")
    await router!.close()
    await start()
    expect(await weights()).toEqual([['main', 9]])
    expect(await router!.deps.config!.reload()).toMatchObject({ changed: false, changes: [] })
    expect(await router!.deps.config!.reload(true)).toMatchObject({ changed: true, changes: ['provider/main: changed'] })
    expect(await weights()).toEqual([['main', 1]])
  })

  it('changes nothing when it is wrong, and the log says what', async () => {
    await put(provider('weight = 3\n'))
    await start()
    await put(provider('weight = 5\n[tenants.acme]\ncolour = "red"\n'))
    await until('the log to speak of it', async () =>
      said.some((line) => /router\.toml: tenants\.acme: there is no setting colour;.*what was set before stays/.test(line)),
    )
    expect(await weights()).toEqual([['main', 3]])
    await put(provider('weight = 5\n'))
    await weightIs(5)
    expect(said.join()).not.toContain(KEY)
  })

  it('waits for a key file that is not there yet or can be read by others, and takes it once that is put right', async () => {
    await put(provider())
    await start()
    await put('[[providers]]\nid = "main"\nbase_url = "https://api.example.com"\napi_key_file = "main.key"\nweight = 5\n')
    const speaksOf = (what: RegExp) => until(`the log to say ${what}`, async () => said.some((line) => what.test(line)))
    await speaksOf(/main\.key is not there;.*what was set before stays/)
    await writeFile(join(dir, 'main.key'), `${KEY}-2`, { mode: 0o644 })
    await speaksOf(/can be read by others/)
    expect(await weights()).toEqual([['main', 1]])
    await chmod(join(dir, 'main.key'), 0o600)
    await weightIs(5)
    expect(said.filter((line) => /is not there/.test(line)).length).toBe(1)
  })

  it('is applied when the database takes writes again', async () => {
    await put(provider())
    await start()
    const release = await lockWrites(join(dir, 'data', 'runyard.db'))
    await put(provider('weight = 6\n'))
    await until('the log to speak of it', async () => said.some((line) => /what was set before stays|could not be applied/.test(line)))
    await release()
    await weightIs(6)
    expect((await weights())[0]?.[1]).toBe(6)
  })

  it('keeps a router from starting when it is wrong, or was named and is not there', async () => {
    await expect(start(true)).rejects.toThrow(/router\.toml is not there/)
    await put('colour = "red"')
    await expect(start()).rejects.toThrow(/there is no setting colour/)
  })
})
