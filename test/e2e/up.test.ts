/** `runyard up` and the other commands as a new user meets them: no login, nothing configured. */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLAUDE, newMachine, processesWith, type Command, type Machine } from '../kit/processes.ts'
import { until } from '../kit/wait.ts'
import { startModel, toolUse } from '../model/scripted.ts'

const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

describe('runyard up without a login', () => {
  let machine: Machine
  let up: Command
  let ready: Record<string, string>
  let flags: string[]

  beforeAll(async () => {
    machine = await newMachine()
    flags = [`--data-dir=${machine.dataDir}`, '--port=0', `--workspace=${machine.workspace}`, `--claude=${CLAUDE}`]
    up = machine.start(['up', '--json', ...flags])
    ready = await up.event('ready')
  })
  afterAll(() => machine.close())

  it('prints exactly one line on stdout, with what a client needs', () => {
    expect(up.stdout).toHaveLength(1)
    expect(ready).toEqual({ event: 'ready', url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/), token: expect.any(String), admin_token: expect.any(String), data_dir: machine.dataDir })
  })

  it('keeps its state to itself', async () => {
    expect(await mode(machine.dataDir)).toBe('700')
    for (const file of ['client.json', 'signing-key.json', 'runyard.db', 'runner/signing.jwk', 'runner/sealing.jwk']) expect(await mode(join(machine.dataDir, file)), file).toBe('600')
    const pids = await processesWith(`--data-dir=${machine.dataDir}`)
    expect(pids.length).toBeGreaterThan(0)
    expect(pids.join('\n')).not.toContain(ready['token'])
  })

  it('answers a prompt with the demo model and says so', async () => {
    const run = await machine.runyard(['run', 'Say hello.', `--data-dir=${machine.dataDir}`])
    expect(run.code, run.stderr).toBe(0)
    expect(run.stdout).toMatch(/demo/i)
    expect(run.stderr).toMatch(/demo/)
    const json = await machine.runyard(['run', '--json', 'Say hello.'], { RUNYARD_URL: ready['url']!, RUNYARD_TOKEN: ready['token']! })
    const events = json.stdout.split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(events[0]).toMatchObject({ kind: 'started', provider: 'demo' })
    expect(events.at(-1)).toMatchObject({ status: 'succeeded', provider: 'demo' })
    const runners = (await (await fetch(`${ready['url']}/v1/runners`, { headers: { 'x-api-key': ready['token']! } })).json()) as { data: unknown[] }
    expect(runners.data).toEqual([expect.objectContaining({ status: 'online', provider: 'demo' })])
  })

  it('makes tokens, and the token works', async () => {
    const made = await machine.runyard(['token', 'create', '--scope=runs:read', '--ttl=1h', '--json', `--data-dir=${machine.dataDir}`])
    const { token } = JSON.parse(made.stdout) as { token: string }
    const call = (init: RequestInit) => fetch(`${ready['url']}/v1/runs`, { ...init, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' } })
    expect((await call({})).status).toBe(200)
    expect((await call({ method: 'POST', body: '{"prompt":"hi"}' })).status).toBe(403)
  })

  it('is found healthy by doctor, line by line', async () => {
    const doctor = await machine.runyard(['doctor', '--json', ...flags])
    const { ok, checks } = JSON.parse(doctor.stdout) as { ok: boolean; checks: { part: string; name: string; status: string }[] }
    expect(ok, doctor.stdout).toBe(true)
    expect(checks.map((c) => `${c.part} ${c.name}`)).toEqual(
      expect.arrayContaining(['router data dir', 'router keys', 'router database commit', 'router port', 'runner claude', 'runner login', 'runner workspace', 'runner config dir', 'runner sandbox', 'runner router']),
    )
  })

  it('runs every command of the README tour', async () => {
    const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8')
    const tour = /## A first tour\n```sh\n([^]*?)```/.exec(readme)?.[1] ?? ''
    const commands = tour.split('\n').flatMap((line) => /^runyard ([^#]*)/.exec(line)?.[1]?.trim() ?? [])
    expect(commands.length).toBeGreaterThan(3)
    for (const command of commands) {
      const args = [...command.matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2] ?? '')
      const ended = await machine.runyard([...args, `--data-dir=${machine.dataDir}`])
      expect(ended.code, `${command}: ${ended.stderr} ${ended.stdout}`).toBe(0)
    }
  })

  it('refuses a second router on the same data', async () => {
    const second = await machine.runyard(['up', '--json', ...flags])
    expect(second.code).toBe(69)
    expect(second.stdout).toContain('is in use by process')
  })

  it('answers the health questions of old and new clients', async () => {
    const health = (await (await fetch(`${ready['url']}/health`)).json()) as Record<string, unknown>
    expect(health).toMatchObject({ status: 'ok', claude_version: expect.stringMatching(/^\d/), concurrency: { active: 0 }, memory: { rss: expect.any(Number) } })
    expect((await fetch(`${ready['url']}/healthz`)).status).toBe(200)
    expect((await fetch(`${ready['url']}/readyz`)).status).toBe(200)
    const openapi = (await (await fetch(`${ready['url']}/openapi.json`)).json()) as { openapi: string; paths: object }
    expect(openapi.openapi).toBe('3.1.0')
    expect(Object.keys(openapi.paths)).toEqual(expect.arrayContaining(['/v1/runs', '/v1/runs/{id}', '/v1/runs/{id}/events', '/v1/runs/{id}/cancel', '/v1/runners']))
  })

  it('ends on SIGTERM within 10 s, with the runner, and starts again with the same tokens', async () => {
    const asked = performance.now()
    const ended = await up.stop('SIGTERM')
    expect(ended.code).toBe(0)
    expect(performance.now() - asked).toBeLessThan(10_000)
    expect(await processesWith(`--data-dir=${machine.dataDir}`)).toEqual([])
    up = machine.start(['up', '--json', ...flags])
    const again = await up.event('ready')
    expect(again).toMatchObject({ token: ready['token'], admin_token: ready['admin_token'] })
    ready = again
  })

  it('takes its runner with it when it is killed', async () => {
    up.child.kill('SIGKILL')
    await up.ended
    expect(await until('the runner to end', async () => (await processesWith(`--data-dir=${machine.dataDir}`)).length === 0, 15_000)).toBe(true)
  })
})

describe('runyard up in the middle of a run', () => {
  it.each(['auto', 'none'])('leaves nothing behind when a second signal ends it at once (sandbox %s)', async (sandbox) => {
    const machine = await newMachine()
    const model = await startModel(() => toolUse('Bash', { command: 'sleep 600', description: 'sleep' }))
    try {
      const login = { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' }
      const up = machine.start(['up', '--json', '--port=0', `--data-dir=${machine.dataDir}`, `--claude=${CLAUDE}`, `--sandbox=${sandbox}`], login)
      const ready = await up.event('ready')
      const headers = { authorization: `Bearer ${ready['token']}`, 'content-type': 'application/json', prefer: 'respond-async' }
      const body = JSON.stringify({ prompt: 'sleep', allowed_tools: ['Bash'] })
      expect((await fetch(`${ready['url']}/v1/runs`, { method: 'POST', headers, body })).status).toBe(202)
      await until('the tool to run', async () => (await processesWith('sleep\x00600')).length > 0, 20_000)
      up.child.kill('SIGTERM')
      await until('the first signal to be heard', () => up.stderr.some((line) => line.startsWith('stopping')))
      up.child.kill('SIGTERM')
      expect((await up.ended).code).toBe(143)
      expect(await until('everything to be gone', async () => (await processesWith(machine.home)).length === 0, 5_000)).toBe(true)
    } finally {
      await machine.close()
      await model.close()
    }
  })
})

describe('runyard on a machine where something is missing', () => {
  let machine: Machine
  beforeAll(async () => {
    machine = await newMachine()
  })
  afterAll(() => machine.close())

  it('names the install line when the CLI is missing', async () => {
    const ended = await machine.runyard(['up', `--data-dir=${machine.dataDir}`, '--port=0', `--claude=${machine.home}/claude`])
    expect(ended.code).toBe(69)
    expect(ended.stderr).toContain('npm install -g @anthropic-ai/claude-code')
  })

  it('refuses without a login when the demo is not wanted', async () => {
    const ended = await machine.runyard(['up', '--no-demo', `--data-dir=${machine.dataDir}`, '--port=0', `--claude=${CLAUDE}`])
    expect(ended.code).toBe(78)
    expect(ended.stderr).toContain('ANTHROPIC_API_KEY')
  })

  it('says who cannot start: not enrolled, no router, wrong flag, bad policy', async () => {
    const start = await machine.runyard(['runner', 'start', `--data-dir=${machine.dataDir}`])
    expect(start.code).toBe(78)
    expect(start.stderr).toContain('not enrolled')
    const run = await machine.runyard(['run', 'hi', '--url=http://127.0.0.1:9'], { RUNYARD_TOKEN: 'x' })
    expect(run.code).toBe(69)
    expect((await machine.runyard(['up', '--port=99999'])).code).toBe(2)
    expect((await machine.runyard(['up', '--prot=1'])).code).toBe(2)
    const policy = join(machine.home, 'runner.toml')
    await writeFile(policy, 'slotz = 3\n')
    const bad = await machine.runyard(['up', `--data-dir=${machine.dataDir}`, '--port=0', `--claude=${CLAUDE}`, `--config=${policy}`])
    expect(bad.code).toBe(78)
    expect(bad.stderr).toContain('slotz')
  })

  it('tells with doctor what is wrong, and what to do', async () => {
    const doctor = await machine.runyard(['doctor', `--data-dir=${machine.dataDir}`, '--port=0', `--claude=${machine.home}/claude`])
    expect(doctor.code).toBe(78)
    expect(doctor.stdout).toContain('npm install -g @anthropic-ai/claude-code')
    expect(await readFile(join(machine.dataDir, 'signing-key.json'), 'utf8')).toContain('urn:uuid:')
  })
})
