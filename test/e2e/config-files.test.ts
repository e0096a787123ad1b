/** Config files by the real CLI: what is put into a pool over HTTP, its runs are told on every machine. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { enlist, type Enlisted } from '../kit/enlist.ts'
import { CLAUDE, newMachine, type Command, type Machine } from '../kit/processes.ts'
import { until } from '../kit/wait.ts'
import { startModel, text, toolUse, type Model } from '../model/scripted.ts'

type Json = Record<string, unknown>

const agentOf = (saying: string) => `---\nname: reviewer\ndescription: Reviews what changed\n---\n${saying}\n`

describe.each(['node', 'workers'] as const)('config files of a pool on %s', (host) => {
  let machine: Machine
  let model: Model
  let fleet: Enlisted
  let secondDir: string

  beforeAll(async () => {
    machine = await newMachine()
    model = await startModel()
    fleet = await enlist(machine, model, { host })
    await writeFile(fleet.policyFile, '[labels]\nmachine = "first"\n')
    await fleet.online(fleet.startRunner([`--workspace=${machine.workspace}`]))
    secondDir = join(machine.home, 'second-data')
    const made = await fleet.admin('/admin/v1/enrolment-tokens', { method: 'POST', body: '{}' })
    const { token } = (await made.json()) as { token: string }
    const enrolled = await machine.runyard(['runner', 'enroll', `--url=${fleet.url}`, `--token=${token}`, `--data-dir=${secondDir}`, '--json'])
    if (enrolled.code !== 0) throw new Error(enrolled.stderr)
    await writeFile(join(secondDir, 'runner', 'runner.toml'), '[labels]\nmachine = "second"\n')
  })
  afterAll(async () => {
    await machine.close()
    await model.close()
  })

  async function startSecond(): Promise<Command> {
    const login = { ANTHROPIC_BASE_URL: model.url, ANTHROPIC_API_KEY: 'sk-test-not-a-key-000' }
    const runner = machine.start(['runner', 'start', '--json', `--data-dir=${secondDir}`, `--claude=${CLAUDE}`, `--workspace=${machine.workspace}`], login)
    await runner.event('ready')
    await until('both runners to be online', async () => (await fleet.states()).filter((state) => state === 'online').length === 2)
    return runner
  }
  async function put(id: string, content: string): Promise<void> {
    const response = await fleet.admin(`/v1/config/${id}`, { method: 'PUT', body: JSON.stringify({ content }) })
    expect(response.status, await response.text()).toBeLessThan(300)
  }
  const remove = async (id: string) => expect((await fleet.admin(`/v1/config/${id}`, { method: 'DELETE' })).status).toBe(204)
  /** Everything that the model was sent in a run on this machine. */
  async function told(on: string, more: Json = {}): Promise<string> {
    const before = model.main().length
    const done = await fleet.run({ prompt: 'Look.', labels: { machine: on }, ...more })
    expect(done).toMatchObject({ status: 'succeeded' })
    return model
      .main()
      .slice(before)
      .map(({ raw }) => raw)
      .join('\n')
  }
  const versions = async () => {
    const { version, runners } = (await (await fleet.call('/v1/config')).json()) as { version: number; runners: { version: number; error: string | null }[] }
    return [version, ...runners.map((runner) => runner.error ?? runner.version)]
  }

  it('are used by the next run, on a machine that was there and on one that came later', async () => {
    expect(await told('first')).not.toContain('Be kind to everybody.')
    await put('agents.reviewer', agentOf('You review like an owl.'))
    await put('claude-md', 'Be kind to everybody.')
    await put('rules.style', 'Never write a semicolon.')
    const first = await told('first', { agent: 'reviewer' })
    for (const words of ['You review like an owl.', 'Be kind to everybody.', 'Never write a semicolon.']) expect(first).toContain(words)
    await startSecond()
    const second = await told('second', { agent: 'reviewer' })
    for (const words of ['You review like an owl.', 'Be kind to everybody.', 'Never write a semicolon.']) expect(second).toContain(words)
    await until('both to say so', async () => (await versions()).join() === '3,3,3')
  })

  it('are others in the next run on both when they change, and gone when they are deleted', { timeout: 90_000 }, async () => {
    await put('agents.reviewer', agentOf('You review like a fox.'))
    await remove('rules.style')
    for (const on of ['first', 'second']) {
      const all = await told(on, { agent: 'reviewer' })
      expect([all.includes('like a fox'), all.includes('like an owl'), all.includes('semicolon')]).toEqual([true, false, false])
    }
    await remove('agents.reviewer')
    await remove('claude-md')
    for (const on of ['first', 'second']) {
      const response = await fleet.start({ prompt: 'Look.', agent: 'reviewer', labels: { machine: on } })
      expect([response.status, await response.json()]).toMatchObject([400, { code: 'agent_not_found' }])
      expect(await told(on)).not.toContain('Be kind to everybody.')
    }
  })

  it('give a run the skills of its pool, and no command by slash', async () => {
    await put('skills.deploy', '---\nname: deploy\ndescription: Deploys everything\n---\nThe way to deploy.\n')
    const begun = model.main().length
    model.script((_request, n) => (n === begun + 1 ? toolUse('Skill', { skill: 'deploy', args: 'now' }) : text('done')))
    expect(await told('first')).toContain('The way to deploy.')
    model.script(() => text('ok'))
    expect(await told('first', { prompt: '/config verbose=true' })).toContain('/config verbose=true')
    const configs = join(fleet.runnerDir, 'runner', 'config')
    const [tenant] = await readdir(configs)
    expect(await readFile(join(configs, tenant!, 'settings.json'), 'utf8')).toBe('{}\n')
    await remove('skills.deploy')
    expect(await told('first')).not.toContain('Deploys everything')
  })
})
