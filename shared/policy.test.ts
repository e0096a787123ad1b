import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Needs, needsOf, PolicyView, refusalOf } from './policy.ts'
import { PermissionMode, RunSpec } from './run-spec.ts'

const MODES = PermissionMode.options
const open: PolicyView = {
  permission_modes: [...MODES],
  bypass: true,
  mcp_config: true,
  agents: true,
  system_prompts: true,
  allow_private_base_urls: false,
  sandbox: 'none',
}
const spec = {
  tenant: 'main',
  session: { mode: 'new', id: '0190a8c4-7c1e-7000-8000-000000000001' },
  prompt: 'secret text',
  timeout_s: 600,
} as const

const anyMode = fc.oneof(fc.constantFrom<unknown>(...MODES), fc.jsonValue(), fc.string({ maxLength: 200 }))
const someAgent = fc.record({ prompt: fc.string(), permissionMode: anyMode }, { requiredKeys: [] })
const someRun = fc.record(
  {
    permission_mode: fc.constantFrom(...MODES),
    agents: fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), someAgent, { maxKeys: 20 }),
    mcp_config: fc.constant({ mcpServers: {} }),
    mcp_servers: fc.subarray(['a', 'b', 'c']),
    system_prompt: fc.string(),
    append_system_prompt: fc.string(),
    max_budget_usd: fc.double({ min: 0.01, max: 10, noNaN: true }),
    max_turns: fc.integer({ min: 1, max: 10 }),
    timeout_s: fc.integer({ min: 1, max: 100 }),
  },
  { requiredKeys: [] },
)
const somePolicy = fc.record(
  {
    permission_modes: fc.subarray([...MODES], { minLength: 1 }),
    bypass: fc.boolean(),
    mcp_config: fc.boolean(),
    mcp_servers: fc.subarray(['a', 'b', 'c']),
    agents: fc.boolean(),
    system_prompts: fc.boolean(),
    max_budget_usd: fc.double({ min: 0.01, max: 10, noNaN: true }),
    max_turns: fc.integer({ min: 1, max: 10 }),
    max_timeout_s: fc.integer({ min: 1, max: 100 }),
    allow_private_base_urls: fc.boolean(),
    sandbox: fc.constant('none'),
  },
  {
    requiredKeys: [
      'permission_modes',
      'bypass',
      'mcp_config',
      'agents',
      'system_prompts',
      'allow_private_base_urls',
      'sandbox',
    ],
  },
)

describe('what a run needs', () => {
  it('has nothing of its texts, and keeps its shape through a database', () => {
    fc.assert(
      fc.property(someRun, (run) => {
        const needs = needsOf(run)
        expect(Needs.parse(JSON.parse(JSON.stringify(needs)))).toEqual(needs)
        expect(JSON.stringify(needs).length).toBeLessThan(2_000)
      }),
    )
    const told = RunSpec.parse({ ...spec, system_prompt: 'secret', agents: { a: { prompt: 'secret' } } })
    expect(JSON.stringify(needsOf(told))).not.toContain('secret')
  })

  it('names a mode that agents ask for once, by the first of them', () => {
    const agents = { a: { permissionMode: 'plan' }, b: { permissionMode: 'plan' }, c: {}, d: { permissionMode: ['auto'] } }
    expect(needsOf({ agents }).agent_modes).toEqual([
      ['agents.a.permissionMode', 'plan'],
      ['agents.d.permissionMode', '["auto"]'],
    ])
  })
})

describe('what an owner forbids', () => {
  it('is exactly what he did not allow, however many agents ask for it', () => {
    fc.assert(
      fc.property(someRun, somePolicy, (run, policy) => {
        const modes: readonly unknown[] = [...policy.permission_modes, ...(policy.bypass ? ['bypassPermissions'] : [])]
        const asked = Object.values(run.agents ?? {})
          .map((agent) => agent.permissionMode)
          .filter((mode) => mode !== undefined)
        const within = (value: number | undefined, maximum: number | undefined) =>
          value === undefined || maximum === undefined || value <= maximum
        const allowed =
          [run.permission_mode ?? 'default', ...asked].every((mode) => modes.includes(mode)) &&
          (run.agents === undefined || policy.agents) &&
          (run.mcp_config === undefined || policy.mcp_config) &&
          (run.mcp_servers ?? []).every((name) => policy.mcp_servers?.includes(name)) &&
          ((run.system_prompt === undefined && run.append_system_prompt === undefined) || policy.system_prompts) &&
          within(run.max_budget_usd, policy.max_budget_usd) &&
          within(run.max_turns, policy.max_turns) &&
          within(run.timeout_s, policy.max_timeout_s)
        const refusal = refusalOf(policy, needsOf(run))
        expect(refusal === undefined).toBe(allowed)
        expect(refusal === undefined || refusal.message.startsWith(`${refusal.field}: `)).toBe(true)
      }),
      { numRuns: 1_000 },
    )
  })

  it('is nothing for a run that names no limit: it gets that of the owner', () => {
    expect(refusalOf({ ...open, max_budget_usd: 1, max_turns: 1 }, needsOf({}))).toBeUndefined()
  })

  it('may be said in modes and keys that are not known here', () => {
    const newer = PolicyView.parse({ ...open, permission_modes: ['plan', 'newerMode'], newer_key: true })
    expect(newer).toEqual({ ...open, permission_modes: ['plan', 'newerMode'] })
    expect(refusalOf(newer, {})?.message).toContain('allowed are plan, newerMode')
  })

  it('names the server that is not there, and those that are', () => {
    const wanting = needsOf({ mcp_servers: ['a', 'b'] })
    expect(refusalOf({ ...open, mcp_servers: ['a', 'c'] }, wanting)?.message).toBe('mcp_servers: "b" is no MCP server of this machine; it has a, c')
    expect(refusalOf(open, wanting)?.message).toBe('mcp_servers: "a" is no MCP server of this machine; it names none')
    expect(refusalOf(open, needsOf({ mcp_servers: [] }))).toBeUndefined()
  })

  it('is not lifted by bypass in a list of modes that does not name it', () => {
    const modes = MODES.filter((mode) => mode !== 'bypassPermissions')
    const bypassing: Needs = { permission_mode: 'bypassPermissions' }
    expect(refusalOf({ ...open, permission_modes: modes, bypass: false }, bypassing)?.field).toBe('permission_mode')
    expect(refusalOf({ ...open, permission_modes: modes }, bypassing)).toBeUndefined()
  })
})
