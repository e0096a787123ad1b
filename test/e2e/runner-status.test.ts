/** The owner's policy as an owner meets it: in `runyard runner status`, at the router, and in a repository he trusts. */
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { CLAUDE, newMachine, type Command, type Ended, type Machine } from '../kit/processes.ts'
import { until } from '../kit/wait.ts'
import { startModel, type Model } from '../model/scripted.ts'

type Status = {
  running: boolean
  pid: number | null
  connected: boolean | null
  slots: number
  busy: number | null
  warm: { processes: number; spares: number; memory_bytes: number; budget_bytes: number } | null
  login: string
  sandbox: { mode: string; means: string }
  cli: { path: string; version: string | null }
  workspaces: string[]
  spool: { runs: number; bytes: number }
  policy: { file: string; found: boolean; keys: Record<string, string>; values: Record<string, unknown>; changed?: string }
}

describe('runyard runner status', () => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let runner: Command | undefined
  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model)
  })
  afterEach(async () => {
    await runner?.stop()
    await until('the router to miss the runner', async () => (await fleet.states()).every((state) => state === 'offline'))
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  const ask = (...flags: string[]): Promise<Ended> =>
    machine.runyard(['runner', 'status', `--data-dir=${fleet.runnerDir}`, `--claude=${CLAUDE}`, ...flags])
  async function status(code = 0): Promise<Status> {
    const ended = await ask('--json')
    expect([ended.code, ended.stderr]).toEqual([code, ''])
    return JSON.parse(ended.stdout) as Status
  }
  async function start(toml: string, ...flags: string[]): Promise<Command> {
    await writeFile(fleet.policyFile, toml)
    runner = fleet.startRunner([`--workspace=${machine.workspace}`, ...flags])
    await fleet.online(runner)
    return runner
  }

  it('says of a machine that is not enrolled what to do', async () => {
    const { code, stderr } = await machine.runyard(['runner', 'status', `--data-dir=${join(machine.home, 'none')}`])
    expect([code, stderr]).toEqual([78, expect.stringContaining('this machine is not enrolled')])
  })

  it('shows of a runner that does not run what would hold', async () => {
    const off = await status(69)
    expect(off).toMatchObject({ running: false, pid: null, connected: null, busy: null, warm: null, login: 'none' })
    expect(off.spool).toEqual({ runs: 0, bytes: 0 })
    expect(off.policy).toMatchObject({ file: fleet.policyFile, found: false, values: { bypass: false } })
    expect(new Set(Object.values(off.policy.keys))).toEqual(new Set(['default']))
    await writeFile(fleet.policyFile, 'slots = 0')
    const { code, stderr } = await ask()
    expect([code, stderr]).toEqual([78, expect.stringContaining('slots: ')])
    await writeFile(fleet.policyFile, '')
    expect((await ask()).stdout).toContain('does not run')
  })

  it('shows of one that runs what is in force, where it comes from, and what was changed since', async () => {
    const flags = ['--allow-private-base-url', '--sandbox=none']
    const { child } = await start('slots = 3\nbypass = true\nwarm_memory_mb = 300\n[labels]\ngpu = "a100"', ...flags)
    await until('its status to be connected', async () => (await status()).connected)
    const on = await status()
    expect(on).toMatchObject({ running: true, pid: child.pid, slots: 3, busy: 0, login: 'env', sandbox: { mode: 'none' } })
    expect(on.warm).toEqual({ processes: 0, spares: 0, memory_bytes: 0, budget_bytes: 300 * 1_048_576 })
    expect(on.cli.version).toMatch(/^\d+\./)
    expect(on.workspaces).toEqual([machine.workspace])
    const { keys, values } = on.policy
    expect(keys).toMatchObject({ labels: 'file', sandbox: 'flag', allow_private_base_urls: 'flag', agents: 'default' })
    expect(values).toMatchObject({ slots: 3, bypass: true, sandbox: 'none', allow_private_base_urls: true, agents: true })
    expect(on.policy.changed).toBeUndefined()
    await writeFile(fleet.policyFile, 'slots = 3\nwarm_memory_mb = 300\nmax_turns = 4\nsandbox = "auto"')
    expect((await status()).policy.changed).toBe(`${fleet.policyFile} has other values of labels, bypass, max_turns`)
    await writeFile(fleet.policyFile, 'slot = 3')
    expect((await status()).policy.changed).toContain('there is no setting slot')
    const { stdout } = await ask()
    expect(stdout).toMatch(/^router .*, connected$/m)
    expect(stdout).toMatch(/^slots +0 of 3 busy$/m)
    expect(stdout).toMatch(/^warm +0 for their sessions, 0 spares, 0 of 300 MiB$/m)
    expect(stdout).toMatch(/^ +bypass +true +file$/m)
    expect(stdout).toMatch(/^ +sandbox +"none" +by a flag$/m)
  })

  it('keeps what it knows to its user, without a secret, and is not fooled by what a killed runner left', async () => {
    const { child, ended } = await start('')
    const file = join(fleet.runnerDir, 'runner', 'status.json')
    await until('the file to be there', () => existsSync(file))
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).not.toContain('sk-test')
    child.kill('SIGKILL')
    await ended
    expect(existsSync(file)).toBe(true)
    expect(await status(69)).toMatchObject({ running: false, connected: null })
    const again = await start('')
    await until('its status to be connected', async () => (await status()).connected)
    expect((await again.stop()).code).toBe(0)
    expect(existsSync(file)).toBe(false)
  })

  it('has the router refuse early what it shows as forbidden', async () => {
    await start('max_turns = 2')
    const { data } = (await (await fleet.call('/v1/runners')).json()) as { data: { policy: object }[] }
    expect(data[0]?.policy).toMatchObject({ max_turns: 2, mcp_config: false })
    for (const [body, field] of [[{ max_turns: 3 }, 'max_turns'], [{ mcp_config: {} }, 'mcp_config']] as const) {
      const response = await fleet.start({ prompt: 'x', ...body })
      expect([response.status, await response.json()]).toMatchObject([403, { code: 'policy', field }])
    }
    expect(await fleet.run({ prompt: 'x', max_turns: 2 })).toMatchObject({ status: 'succeeded' })
  })

  it('names the folders whose own hooks run, and no others have theirs run', async () => {
    const repository = async (name: string) => {
      const cwd = join(machine.workspace, name)
      const hook = { hooks: [{ type: 'command', command: `touch ${cwd}/hook-ran` }] }
      await mkdir(join(cwd, '.claude'), { recursive: true })
      await writeFile(join(cwd, '.claude/settings.json'), JSON.stringify({ hooks: { SessionStart: [hook] } }))
      return cwd
    }
    const [ours, theirs] = await Promise.all([repository('ours'), repository('theirs')])
    await start(`trusted_workspaces = ["${ours}"]`)
    for (const cwd of [ours, theirs]) expect(await fleet.run({ prompt: 'x', cwd })).toMatchObject({ status: 'succeeded' })
    expect([ours, theirs].map((cwd) => existsSync(join(cwd, 'hook-ran')))).toEqual([true, false])
  })
})
