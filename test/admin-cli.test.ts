/** The admin commands as an operator has them: the built command, against a router in this process. */
import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fleet, Json } from './kit/fleet.ts'
import { startNodeFleet } from './kit/host-node.ts'
import { MAIN, newMachine, type Ended, type Machine } from './kit/processes.ts'
import { openReceiver, verified } from './kit/receiver.ts'
import { echo, gate } from './kit/turns.ts'
import { until } from './kit/wait.ts'

const KEY = 'sk-test-canary-0123456789'

let fleet: Fleet
let machine: Machine
beforeAll(async () => {
  fleet = await startNodeFleet()
  machine = await newMachine()
})
afterAll(async () => {
  await machine.close()
  await fleet.close()
})

const env = (more: Record<string, string> = {}) => ({ RUNYARD_URL: fleet.url, RUNYARD_TOKEN: fleet.adminToken, ...more })
const runyard = (line: string, more?: Record<string, string>): Promise<Ended> =>
  machine.runyard([...line.split(' '), '--data-dir', machine.dataDir], env(more))
/** What it says with `--json`; fails unless it ends well. */
async function json<T = Json>(line: string, more?: Record<string, string>): Promise<T> {
  const { code, stdout, stderr } = await runyard(`${line} --json`, more)
  expect([code, stderr], line).toEqual([0, ''])
  return JSON.parse(stdout) as T
}
async function words(line: string): Promise<string> {
  const { code, stdout, stderr } = await runyard(line)
  expect([code, stderr], line).toEqual([0, expect.anything()])
  return stdout
}

describe('runyard provider', () => {
  it('takes a key from a file, from stdin or from the environment', async () => {
    const file = join(machine.home, 'key')
    await writeFile(file, `${KEY}\n`, { mode: 0o600 })
    expect(
      await json(
        `provider add main --base-url https://api.example.com --key-file ${file} --weight 3 --model opus --price opus=15,75`,
      ),
    ).toMatchObject({
      id: 'main',
      weight: 3,
      models: ['opus'],
      prices: { opus: { input: 15, output: 75 } },
      key: { last4: '6789' },
    })
    expect(
      await json('provider add spare --base-url https://spare.example.com --key-env SPARE_KEY', { SPARE_KEY: KEY }),
    ).toMatchObject({ id: 'spare', key: { last4: '6789' } })
    const piped = await new Promise<string>((resolve, reject) => {
      const args = [MAIN, 'provider', 'edit', 'spare', '--key-file', '-', '--json', '--data-dir', machine.dataDir]
      const child = execFile(
        process.execPath,
        args,
        { env: { PATH: process.env['PATH'], HOME: machine.home, ...env() } },
        (error, stdout) => (error ? reject(error) : resolve(stdout)),
      )
      child.stdin?.end('sk-from-stdin-7777\n')
    })
    expect(JSON.parse(piped)).toMatchObject({ version: 2, key: { last4: '7777' } })
  })

  it('takes no key as an argument, and says where it goes', async () => {
    for (const flag of [`--key ${KEY}`, `--key=${KEY}`]) {
      const { code, stdout, stderr } = await runyard(`provider add x --base-url https://x.example ${flag}`)
      expect([code, stdout]).toEqual([2, ''])
      expect(stderr).toMatch(/a key does not belong on a command line.*\n.*--key-file/s)
      expect(stderr).not.toContain(KEY)
    }
    expect((await runyard('provider add x --base-url https://x.example')).stderr).toMatch(/provider x needs a key/)
  })

  it('shows a table to people, and everything to scripts', async () => {
    const [head, ...rows] = (await words('provider list')).split('\n')
    expect(head).toMatch(/^ID +STATE +WEIGHT +REQUESTS +FAILED +LATENCY +SESSIONS +KEY +BASE URL$/)
    expect(rows[0]).toMatch(/^main +closed +3 +0 +0 +- +0 +…6789 +https:\/\/api\.example\.com$/)
    const { data } = await json<{ data: Json[] }>('provider list')
    expect(data.map(({ id }) => id)).toEqual(['main', 'spare'])
    expect(await words('provider show main')).toMatch(/^price opus +\$15 in, \$75 out/m)
  })

  it('is edited, disabled, enabled, reset and removed', async () => {
    expect(await json('provider edit main --weight 5 --any-model --no-price --env API_TIMEOUT_MS=1000')).toMatchObject({
      weight: 5,
      models: null,
      prices: null,
      env: { API_TIMEOUT_MS: '1000' },
    })
    expect(await json('provider edit main --no-env')).toMatchObject({ weight: 5, env: {} })
    expect(await json('provider disable spare')).toMatchObject({ enabled: false })
    expect(await words('provider list')).toMatch(/^spare +disabled/m)
    expect(await json('provider enable spare')).toMatchObject({ enabled: true })
    expect(await json('provider reset spare')).toMatchObject({ health: { state: 'closed' } })
    expect(await words('provider remove spare')).toBe('provider spare is removed')
  })

  it('ends with a number and a sentence when the router says no', async () => {
    for (const [line, exit, says] of [
      ['provider show nothing', 1, /no provider nothing \(not_found\)/],
      ['provider edit main --weight 11', 2, /must be a whole number from 1 to 10/],
      ['provider edit main --base-url https://elsewhere.example', 1, /api_key: has to be given with a base_url of another host/],
      ['provider list --tenant nobody%', 1, /tenant: is not a tenant id/],
    ] as const) {
      const { code, stderr } = await runyard(line)
      expect(code, line).toBe(exit)
      expect(stderr).toMatch(says)
    }
    const { code, stdout } = await runyard('provider list --json', { RUNYARD_TOKEN: fleet.token })
    expect([code, JSON.parse(stdout)]).toMatchObject([
      77,
      { event: 'error', message: expect.stringContaining('this route takes an admin token') },
    ])
  })
})

describe('runyard usage', () => {
  it('says what was used, as a whole and by something', async () => {
    const theirs = await fleet.as('usage')
    await theirs.runner({ turn: echo })
    for (const prompt of ['a', 'b']) expect((await theirs.run({ prompt, model: 'opus' })).status).toBe(200)
    const day = new Date().toISOString().slice(0, 10)
    const all = { runs: 2, succeeded: 2, input_tokens: 2, cost_usd: 1 }
    expect(await json('usage --tenant usage')).toMatchObject({ total: all, data: [] })
    expect(await json(`usage --tenant usage --by model --from ${day} --to ${day} --order runs --limit 5`)).toMatchObject({ data: [{ ...all, key: 'opus' }] })
    expect(await json('usage --by tenant --limit 1000')).toMatchObject({ data: expect.arrayContaining([expect.objectContaining({ ...all, key: 'usage' })]) as Json[] })
    expect(await words('usage --tenant usage')).toMatch(/^cost +\$1\.00/m)
    expect(await words('usage --tenant usage --by day')).toMatch(new RegExp(`^${day} +2 +0 +2 +2 +\\$1\\.00\nall together: 2 runs, \\$1\\.00$`, 'm'))
    expect(await words('usage --tenant usage --to 2020-01-01 --by day')).toBe('no run has ended in that time')
    expect((await runyard('usage --from yesterday')).stderr).toMatch(/must be a day such as/)
  })
})

describe('runyard limits and routing', () => {
  it('change what is named and leave the rest', async () => {
    expect(await json('limits set --day 5 --concurrent 3 --rate write=5/s:20 --token-rate read=1:2')).toMatchObject({
      limits: {
        budget: { day_usd: 5 },
        concurrent_runs: 3,
        rates: { write: { rate: 5, burst: 20 } },
        token_rates: { read: { rate: 1, burst: 2 } },
      },
    })
    expect((await json('limits set --total 100 --rate read=50:100 --token-rate read=none'))['limits']).toEqual({
      budget: { total_usd: 100, day_usd: 5 },
      concurrent_runs: 3,
      rates: { write: { rate: 5, burst: 20 }, read: { rate: 50, burst: 100 } },
    })
    expect(await words('limits show')).toMatch(/^budget of a day +\$5\.00/m)
    expect(
      (await json('limits set --total none --day none --concurrent none --rate write=none --rate read=none'))['limits'],
    ).toEqual({})
    expect(await json('routing set --strategy round-robin --recovery 90s')).toMatchObject({
      set: { strategy: 'round-robin', recovery_s: 90 },
      routing: { failover: true },
    })
    expect(await json('routing set --strategy none --failover off')).toMatchObject({
      set: { recovery_s: 90, failover: false },
      routing: { strategy: 'weighted' },
    })
    expect(await words('routing show')).toMatch(/^failover +off$/m)
    expect((await runyard('limits set --rate write=fast')).stderr).toMatch(/must look like write=5\/s:20/)
  })
})

describe('runyard runners, pools and enrolment', () => {
  it('show the machines, and drain and revoke them', async () => {
    const cli = gate()
    const { id } = await fleet.runner({ turn: cli.turn, name: 'build-7', labels: { os: 'linux' } })
    expect(await words('runners list')).toMatch(new RegExp(`^${id} +build-7 +default +online +0/4 +local .*os=linux$`, 'm'))
    expect(await words('pools')).toMatch(/^default +1 +1 +0 +0\/4 +0 +0$/m)
    expect(await json(`runners drain ${id}`)).toMatchObject({ status: 'draining', drained: true })
    expect(await words('pools')).toMatch(/^default +1 +1 +1 +0\/0 +0 +0$/m)
    expect(await words(`runners undrain ${id}`)).toBe(`runner ${id} (build-7) is online`)
    expect(await words(`runners revoke ${id}`)).toBe(`runner ${id} (build-7) is revoked`)
    await fleet.allRunners('offline')
  })

  it('let a machine in and take it back', async () => {
    const made = await runyard('enrolment create --pool gpu --ttl 10m')
    expect([made.code, made.stdout]).toEqual([0, expect.stringMatching(/^ret_[\w-]{43}$/)])
    const { data } = await json<{ data: Json[] }>('enrolment list')
    const [invitation, ...others] = data.filter((row) => row['used_at'] === null)
    expect([invitation, others]).toMatchObject([{ pool: 'gpu' }, []])
    const id = invitation!['id'] as string
    expect(await words(`enrolment revoke ${id}`)).toBe(`${id} enrols nobody any more`)
    expect(await words('enrolment list')).not.toContain(id)
  })
})

describe('runyard token and tenant', () => {
  it('make tokens that can do less, and take them back', async () => {
    const { jti } = await json<{ jti: string }>('token create --subject ci --family builds --pool gpu --budget 5 --ttl 1h')
    const { data } = await json<{ data: Json[] }>('token list --family builds')
    expect(data).toMatchObject([{ jti, subject: 'ci', limits: { pools: ['gpu'], budget_usd: 5 }, revoked_at: null }])
    expect(await words('token list --family builds')).toMatch(new RegExp(`^${jti} +app +ci +builds +good`, 'm'))
    expect(await words(`token revoke ${jti}`)).toMatch(/is revoked/)
    expect(await words('token list --family builds')).toMatch(/ revoked /)
    await json('token create --family builds')
    expect(await json('token revoke --family builds')).toEqual({ revoked: 1 })
    expect((await runyard('token revoke')).code).toBe(2)
  })

  it('trust issuers, register what clients have already, and rotate the key', async () => {
    const added =
      'issuer add ci --issuer https://idp.example --audience us --require repository=acme/app --require repository=acme/lib --scope runs:read'
    expect(await json(added)).toMatchObject({
      mapping: { require: [{ claim: 'repository', is: ['acme/app', 'acme/lib'] }], scopes: ['runs:read'] },
    })
    expect(await words('issuer disable ci')).toBe('issuer ci is disabled')
    expect(await words('issuer list')).toMatch(/^ci +disabled +https:\/\/idp\.example +us +runs:read$/m)
    await words('issuer remove ci')
    const { id } = await json<{ id: string }>('credential add --subject old-client --key-env OLD', { OLD: 'ccs_ak_0123456789' })
    expect((await fleet.call('/v1/runs', { token: 'ccs_ak_0123456789' })).status).toBe(200)
    expect(await words('credential list')).toMatch(new RegExp(`^${id} +key +old-client `, 'm'))
    expect(await words(`credential remove ${id}`)).toBe(`${id} opens nothing any more`)
    const { kid } = await json<{ kid: string }>('key rotate')
    expect(await words('key list')).toMatch(new RegExp(`^${kid} +signing `, 'm'))
  })

  it('make tenants, whose things an operator sees by name', async () => {
    expect(await json('tenant add blue --name Blue')).toMatchObject({ id: 'blue', name: 'Blue' })
    expect((await runyard('tenant add blue')).stderr).toMatch(/tenant\/blue is there already/)
    expect(await json('tenant edit blue --disable')).toMatchObject({ disabled: true })
    expect(await words('tenant list')).toMatch(/^blue +Blue +disabled/m)
    expect(await json('tenant edit blue --enable')).toMatchObject({ disabled: false })
    expect(await json('provider list --tenant blue')).toEqual({ data: [] })
  })
})

describe('runyard audit and config', () => {
  it('tell who changed what', async () => {
    expect(await words('audit --action provider.update --limit 5')).toMatch(
      /test-admin +provider\.update +provider\/main .*weight 3 → 5/,
    )
    const { data } = await json<{ data: Json[] }>('audit --since 1h --limit 3')
    expect(data).toHaveLength(3)
    expect(await words('audit --since 2020-01-01 --target nothing')).toBe('nothing was changed')
  })

  it('look at a file before a router does', async () => {
    const file = join(machine.home, 'router.toml')
    await writeFile(file, `[[providers]]\nid = "main"\nbase_url = "https://api.example.com"\napi_key = "${KEY}"\n`)
    await chmod(file, 0o644)
    expect(await runyardCheck(file)).toMatchObject({
      code: 78,
      stderr: expect.stringMatching(/can be read by others \(mode 644\)/),
    })
    await chmod(file, 0o600)
    expect(await runyardCheck(file)).toMatchObject({ code: 0, stdout: `${file} is right: 1 providers, settings of 0 tenants` })
    await writeFile(file, 'colour = "red"\n')
    expect(await runyardCheck(file)).toMatchObject({
      code: 78,
      stderr: expect.stringMatching(/there is no setting colour; there are providers, tenants, issuers/),
    })
    expect((await runyard('config reload')).stderr).toMatch(/this router has no config file/)
  })

  it('start a router on its file, and not on one that is wrong', async () => {
    const dataDir = join(machine.home, 'router')
    const args = ['router', '--json', '--port', '0', '--data-dir', dataDir]
    const file = join(machine.home, 'other.toml')
    await writeFile(file, '[tenants.blue.limits]\nconcurrent_run = 2\n')
    const refused = await machine.runyard([...args, '--config', file])
    expect([refused.code, JSON.parse(refused.stdout)]).toMatchObject([
      78,
      {
        message: expect.stringMatching(
          /other\.toml: tenants\.blue\.limits: there is no setting concurrent_run; there are rates, /,
        ),
      },
    ])
    await writeFile(file, '[tenants.blue.limits]\nconcurrent_runs = 2\n')
    const router = machine.start([...args, '--config', file])
    const { url, admin_token: token } = await router.event('ready')
    const asked = async (line: string) =>
      JSON.parse(
        (await machine.runyard([...line.split(' '), '--json'], { RUNYARD_URL: url!, RUNYARD_TOKEN: token! })).stdout,
      ) as Json
    expect(await asked('limits show --tenant blue')).toMatchObject({ limits: { concurrent_runs: 2 } })
    await asked('limits set --tenant blue --concurrent 7')
    expect(await asked('config reload')).toMatchObject({ file, changed: false })
    expect(await asked('config reload --force')).toMatchObject({ changed: true, changes: ['tenant/blue: limits set'] })
    await router.stop()
  })

  const runyardCheck = (file: string) => machine.runyard(['config', 'check', file])
})

describe('runyard config-file', () => {
  it('writes, lists, shows and deletes the files of a pool', async () => {
    const file = join(machine.home, 'reviewer.md')
    await writeFile(file, '---\nname: reviewer\ndescription: Reviews\n---\nBe brief.\n')
    expect(await json(`config-file put agents.reviewer ${file} --pool desk`)).toEqual({ id: 'agents.reviewer', pool: 'desk', version: 1 })
    expect(await words('config-file list --pool desk')).toMatch(/agents\.reviewer\s+1\s+\d+\s.*Reviews/)
    expect(await json('config-file list')).toMatchObject({ pool: 'default', data: [] })
    expect(await words('config-file get agents.reviewer --pool desk')).toContain('Be brief.')
    await writeFile(file, 'see @/etc/passwd')
    expect(await runyard(`config-file put claude-md ${file}`)).toMatchObject({ code: 1, stderr: expect.stringContaining('would be read as a file of the machine') })
    expect(await words('config-file delete agents.reviewer --pool desk')).toBe('agents.reviewer is gone')
    expect((await runyard('config-file get agents.reviewer --pool desk')).stderr).toContain('no config file agents.reviewer')
  })
})

describe('runyard webhook', () => {
  it('adds, changes, tries and deletes one, and shows what became of what was sent', { timeout: 90_000 }, async () => {
    const receiver = await openReceiver()
    try {
      expect(await json('webhook settings --allow-private --timeout 2')).toEqual({ allow_private: true, timeout_s: 2 })
      expect(await words('webhook settings')).toContain('allowed')
      const added = await json(`webhook add ${receiver.url}a --event run.failed --event run.lost --format ccs`)
      expect(added).toMatchObject({ url: `${receiver.url}a`, events: ['run.failed', 'run.lost'], format: 'ccs', secret: expect.stringMatching(/^whsec_/) })
      const id = String(added['id'])
      expect(await json(`webhook edit ${id} --any-event --to ${receiver.url}b --format standard`)).toMatchObject({ events: null, url: `${receiver.url}b` })
      expect(await words('webhook list')).toContain(`${receiver.url}b`)
      const { secret } = await json(`webhook secret ${id}`)
      const sent = await json(`webhook test ${id}`)
      await until('it to be delivered', async () => (await json<{ data: Json[] }>('webhook deliveries --state delivered')).data.length === 1)
      verified(receiver.at('/b')[0]!, String(secret))
      expect(await words(`webhook delivery ${String(sent['id'])}`)).toContain('webhook.test')
      await words(`webhook redeliver ${String(sent['id'])}`)
      await until('it to be delivered again', () => receiver.heard.length === 2)
      expect(await words(`webhook delete ${id}`)).toContain('is deleted')
      expect(await json('webhook list')).toEqual({ data: [] })
      const refused = await runyard('webhook add ftp://example.com/')
      expect([refused.code, refused.stderr]).toEqual([expect.any(Number), expect.stringContaining('url')])
      expect(refused.code).not.toBe(0)
    } finally {
      await receiver.close()
    }
  })
})
