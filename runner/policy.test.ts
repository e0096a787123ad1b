import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fault } from '../shared/faults.ts'
import { PermissionMode, RunSpec } from '../shared/run-spec.ts'
import { checkPolicy, loadPolicy, parsePolicy, Policy, PolicyError, withLimits } from './policy.ts'

const spec: RunSpec = {
  tenant: 'main',
  session: { mode: 'new', id: '0190a8c4-7c1e-7000-8000-000000000001' },
  prompt: 'hello',
  timeout_s: 600,
}
const policy = (toml = ''): Policy => parsePolicy(toml, 'runner.toml')
/** The field and the words of a refusal, or undefined. */
function refusal(toml: string, more: Partial<RunSpec>): { field: unknown; message: string } | undefined {
  try {
    checkPolicy(policy(toml), RunSpec.parse({ ...spec, ...more }))
    return undefined
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'policy') throw error
    return { field: error.extra['field'], message: error.message }
  }
}

describe('runner.toml', () => {
  it('has safe defaults', () => {
    const defaults = policy()
    expect(defaults).toMatchObject({ bypass: false, mcp_config: false, allow_private_base_urls: false, env_allow: [], workspaces: [], labels: {} })
    expect(defaults.permission_modes).toEqual(['default', 'acceptEdits', 'plan', 'dontAsk', 'auto'])
    expect(defaults.slots).toBeGreaterThanOrEqual(2)
    expect(defaults.warm_memory_mb).toBeLessThanOrEqual(2_048)
  })

  it('takes every setting', () => {
    const all = `
      workspaces = ["/srv/code"]
      trusted_workspaces = ["/srv/code/ours"]
      slots = 3
      permission_modes = ["plan"]
      bypass = true
      mcp_config = true
      agents = false
      system_prompts = false
      env_allow = ["CI_TOKEN"]
      sandbox = "none"
      allow_private_base_urls = true
      max_budget_usd = 2.5
      max_timeout_s = 60
      max_turns = 4
      max_log_mb = 8
      workspace_days = 7
      warm_idle_s = 60
      warm_memory_mb = 512
      spares = 1
      [mcp_servers.tiny]
      command = "tiny"
      [labels]
      gpu = "a100"
    `
    expect(Object.keys(policy(all)).toSorted()).toEqual(Object.keys(Policy.shape).toSorted())
    expect(policy(all)).toMatchObject({ slots: 3, labels: { gpu: 'a100' }, max_budget_usd: 2.5 })
  })

  it.each([
    ['bypas = true', 'runner.toml: there is no setting bypas; there are workspaces, trusted_workspaces, slots'],
    ['slots = 0', 'runner.toml: slots: '],
    ['slots = "2"', 'runner.toml: slots: '],
    ['bypass = "yes"', 'runner.toml: bypass: '],
    ['permission_modes = ["bypassPermissions"]', 'runner.toml: permission_modes.0: '],
    ['permission_modes = []', 'runner.toml: permission_modes: '],
    ['workspaces = ["code"]', 'runner.toml: workspaces.0: must be an absolute path'],
    ['trusted_workspaces = ["ours"]', 'runner.toml: trusted_workspaces.0: must be an absolute path'],
    ['env_allow = ["A=B"]', 'runner.toml: env_allow.0: must be the name of an environment variable'],
    ['[labels]\n"a b" = "x"', 'runner.toml: labels.a b: '],
    ['max_budget_usd = -1', 'runner.toml: max_budget_usd: '],
    ['max_log_mb = 0', 'runner.toml: max_log_mb: '],
    ['workspace_days = -1', 'runner.toml: workspace_days: '],
    ['warm_idle_s = 86401', 'runner.toml: warm_idle_s: '],
    ['warm_memory_mb = -1', 'runner.toml: warm_memory_mb: '],
    ['spares = 3', 'runner.toml: spares: '],
    ['[mcp_servers.tiny]', 'runner.toml: mcp_servers.tiny.command: '],
    ['[mcp_servers."a b"]\ncommand = "x"', 'runner.toml: mcp_servers.a b: '],
    ['[mcp_servers.tiny]\ncommand = "x"\nshell = true', 'runner.toml: mcp_servers.tiny: '],
    ['[mcp_servers.tiny]\ncommand = "x"\nargs = ["${TOKEN}"]', 'runner.toml: mcp_servers.tiny.args.0: cannot have a variable'],
    ['[mcp_servers.tiny]\ncommand = "x"\nreads = ["tools"]', 'runner.toml: mcp_servers.tiny.reads.0: must be an absolute path'],
    ['[mcp_servers.far]\nurl = "file:///x"', 'runner.toml: mcp_servers.far.url: must be an http or https URL'],
    ['[mcp_servers.far]\nurl = "https://x.example"\nheaders = { "a b" = "c" }', 'runner.toml: mcp_servers.far.headers.a b: '],
    ['slots = 1\nslots = 2', 'runner.toml: line 2 is not valid TOML'],
    ['slots = ', 'runner.toml: line 1 is not valid TOML'],
  ])('refuses %j and says where', (toml, message) => {
    expect(() => policy(toml)).toThrow(PolicyError)
    expect(() => policy(toml)).toThrow(message)
  })

  it('is read from a file; a missing one means the defaults unless it was named', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'runyard-'))
    const file = join(folder, 'runner.toml')
    expect(await loadPolicy(file)).toEqual(policy())
    await expect(loadPolicy(file, { required: true })).rejects.toThrow(`${file}: there is no such file`)
    await expect(loadPolicy(folder)).rejects.toThrow(`${folder}: cannot be read`)
    await writeFile(file, 'slots = 7')
    expect((await loadPolicy(file, { required: true })).slots).toBe(7)
    await rm(folder, { recursive: true })
  })
})

describe('checkPolicy', () => {
  it('lets an ordinary run through', () => {
    const agents = { helper: { description: 'helps', prompt: 'help', tools: ['Read'], model: 'haiku' } }
    expect(refusal('', { permission_mode: 'acceptEdits', system_prompt: 'be brief', agents, max_budget_usd: 1 })).toBeUndefined()
  })

  it.each<[string, Partial<RunSpec>, string, string]>([
    ['', { permission_mode: 'bypassPermissions' }, 'permission_mode', 'allowed are default, acceptEdits, plan, dontAsk, auto'],
    [
      'permission_modes = ["plan"]',
      { permission_mode: 'auto' },
      'permission_mode',
      '"auto" is not allowed on this machine; allowed are plan',
    ],
    ['permission_modes = ["plan"]', {}, 'permission_mode', '"default" is not allowed'],
    ['', { mcp_config: {} }, 'mcp_config', 'may not name MCP servers'],
    ['system_prompts = false', { system_prompt: '' }, 'system_prompt', 'may not set a system prompt'],
    ['system_prompts = false', { append_system_prompt: 'x' }, 'append_system_prompt', 'may not set a system prompt'],
    ['agents = false', { agents: {} }, 'agents', 'may not define agents'],
    ['max_budget_usd = 1', { max_budget_usd: 1.01 }, 'max_budget_usd', '1.01 is over what the owner of this machine allows: 1'],
    ['max_turns = 3', { max_turns: 4 }, 'max_turns', 'allows: 3'],
    ['max_timeout_s = 599', {}, 'timeout_s', '600 is over what the owner of this machine allows: 599'],
  ])('with %j refuses %j by the name of %s', (toml, more, field, words) => {
    const refused = refusal(toml, more)
    expect(refused?.field).toBe(field)
    expect(refused?.message).toContain(words)
  })

  it.each<[string, Partial<RunSpec>]>([
    ['bypass = true', { permission_mode: 'bypassPermissions' }],
    ['mcp_config = true', { mcp_config: { mcpServers: {} } }],
    ['max_budget_usd = 1', { max_budget_usd: 1 }],
    ['max_timeout_s = 600', {}],
    ['max_turns = 3', { max_turns: 3 }],
  ])('with %j allows %j', (toml, more) => {
    expect(refusal(toml, more)).toBeUndefined()
  })

  it.each(['hooks', 'mcpServers', 'initialPrompt', 'isolation', 'permissionmode', '__proto__x', 'constructor'])(
    'refuses an agent with %s',
    (key) => {
      const all = 'bypass = true\nmcp_config = true'
      expect(refusal(all, { agents: { a: { prompt: 'x', [key]: {} } } })?.field).toBe(`agents.a.${key}`)
    },
  )

  it('holds the permission mode of an agent against the same list as that of the run', () => {
    const agents = (permissionMode: unknown): Partial<RunSpec> => ({ agents: { a: { prompt: 'x', permissionMode } } })
    expect(refusal('', agents('bypassPermissions'))?.field).toBe('agents.a.permissionMode')
    expect(refusal('', agents(['plan']))?.field).toBe('agents.a.permissionMode')
    expect(refusal('', agents('acceptEdits'))).toBeUndefined()
    expect(refusal('bypass = true', agents('bypassPermissions'))).toBeUndefined()
  })

  it('passes a run exactly when each of its parts would pass alone', () => {
    const toml = 'permission_modes = ["default", "plan"]\nmax_turns = 5\nsystem_prompts = false\n'
    const part = fc.record(
      {
        permission_mode: fc.constantFrom(...PermissionMode.options),
        system_prompt: fc.constant('x'),
        mcp_config: fc.constant({}),
        max_budget_usd: fc.constantFrom(0.5, 500),
      },
      { requiredKeys: [] },
    )
    const property = fc.property(part, (more) => {
      const alone = Object.entries(more).every(([key, value]) => refusal(toml, { [key]: value, max_turns: 5 }) === undefined)
      return alone === (refusal(toml, { ...more, max_turns: 5 }) === undefined)
    })
    expect(fc.check(property).failed).toBe(false)
  })
})

describe('withLimits', () => {
  it("gives a run the owner's limits where it names none, so that it passes and is held to them", () => {
    const limits = policy('max_budget_usd = 1\nmax_turns = 3')
    const limited = withLimits(limits, spec)
    expect(limited).toEqual({ ...spec, max_budget_usd: 1, max_turns: 3 })
    expect(() => checkPolicy(limits, limited)).not.toThrow()
  })

  it('does not lower or raise what a run names', () => {
    const named = { ...spec, max_budget_usd: 5, max_turns: 1 }
    expect(withLimits(policy('max_budget_usd = 1\nmax_turns = 3'), named)).toEqual(named)
    expect(withLimits(policy(), spec)).toEqual(spec)
  })
})
