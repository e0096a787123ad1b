/**
 * What the owner of a machine allows, as its runner tells the router, and whether a run is within it. Both ends ask the
 * same question, so an early refusal reads like the runner's own; the runner's is the last word.
 *
 * Only what can be said of any machine is decided here: paths, environment and what agents may hold are the runner's.
 */
import { z } from 'zod'
import { McpServerName, PermissionMode, type RunSpec } from './run-spec.ts'

/** Of one machine, so that their names stay small in its hello. */
export const MAX_MCP_SERVERS = 64

/** The part of `runner.toml` that a run can be held against. What a router does not know of is left out by it. */
export const PolicyView = z.object({
  /** A newer runner may know of more modes than this router, which must not take its hello for malformed. */
  permission_modes: z.array(z.string().max(64)).max(32),
  bypass: z.boolean(),
  mcp_config: z.boolean(),
  /** Those that runs may name; a runner that tells of none has none. */
  mcp_servers: z.array(z.string().max(64)).max(MAX_MCP_SERVERS).optional(),
  agents: z.boolean(),
  system_prompts: z.boolean(),
  max_budget_usd: z.number().positive().optional(),
  max_timeout_s: z.int().positive().optional(),
  max_turns: z.int().positive().optional(),
  allow_private_base_urls: z.boolean(),
  /** The one that runs are kept in there. */
  sandbox: z.string().max(32),
})
export type PolicyView = z.infer<typeof PolicyView>

/** What of a run the owner of a machine may forbid; nothing of its texts. */
export const Needs = z.object({
  permission_mode: PermissionMode.optional(),
  /** The modes that its agents ask for, each by the field of the first one that does. */
  agent_modes: z.array(z.tuple([z.string(), z.string()])).max(8).optional(),
  mcp_config: z.literal(true).optional(),
  mcp_servers: z.array(McpServerName).max(32).optional(),
  agents: z.literal(true).optional(),
  /** The field that sets one. */
  system_prompts: z.enum(['system_prompt', 'append_system_prompt']).optional(),
  /** A limit that a run does not name is the owner's. */
  max_budget_usd: z.number().optional(),
  max_turns: z.number().optional(),
  timeout_s: z.number().optional(),
})
export type Needs = z.infer<typeof Needs>

/** There are fewer modes, so of more than these one is certainly no mode at all, and refused. */
const MAX_AGENT_MODES = 8
/** Longer than any mode. */
const MAX_MODE_CHARS = 64

type Texts = 'system_prompt' | 'append_system_prompt'
type Limits = 'max_budget_usd' | 'max_turns' | 'timeout_s'
type Asking = Partial<Pick<RunSpec, 'permission_mode' | 'agents' | 'mcp_config' | 'mcp_servers' | Texts | Limits>>

export function needsOf(spec: Asking): Needs {
  const { agents, mcp_servers = [], max_budget_usd, max_turns, timeout_s } = spec
  const modes = agentModes(agents ?? {})
  const prompt = (['system_prompt', 'append_system_prompt'] as const).find((field) => spec[field] !== undefined)
  return {
    permission_mode: spec.permission_mode ?? 'default',
    ...(modes.length > 0 ? { agent_modes: modes } : {}),
    ...(spec.mcp_config === undefined ? {} : { mcp_config: true }),
    ...(mcp_servers.length > 0 ? { mcp_servers } : {}),
    ...(agents === undefined ? {} : { agents: true }),
    ...(prompt === undefined ? {} : { system_prompts: prompt }),
    ...(max_budget_usd === undefined ? {} : { max_budget_usd }),
    ...(max_turns === undefined ? {} : { max_turns }),
    ...(timeout_s === undefined ? {} : { timeout_s }),
  }
}

function agentModes(agents: NonNullable<Asking['agents']>): [string, string][] {
  const first = new Map<string, string>()
  for (const [name, { permissionMode: mode }] of Object.entries(agents)) {
    if (mode === undefined) continue
    // A mode in a list is none, and must not look like one.
    const text = (typeof mode === 'string' ? mode : JSON.stringify(mode)).slice(0, MAX_MODE_CHARS)
    if (!first.has(text)) first.set(text, `agents.${name}.permissionMode`)
  }
  return [...first].slice(0, MAX_AGENT_MODES).map(([mode, field]) => [field, mode])
}

/** The rule that is in the way: the field of the run, and a sentence that begins with it and says what is allowed. */
export type Refusal = { readonly field: string; readonly message: string }

/** Undefined: the owner allows it. */
export function refusalOf(policy: PolicyView, needs: Needs): Refusal | undefined {
  return (
    modeRefusal(policy, 'permission_mode', needs.permission_mode ?? 'default') ??
    (needs.mcp_config && !policy.mcp_config
      ? refusal('mcp_config', 'runs on this machine may not name MCP servers')
      : undefined) ??
    serverRefusal(policy.mcp_servers ?? [], needs.mcp_servers ?? []) ??
    (needs.system_prompts && !policy.system_prompts
      ? refusal(needs.system_prompts, 'runs on this machine may not set a system prompt')
      : undefined) ??
    (needs.agents && !policy.agents ? refusal('agents', 'runs on this machine may not define agents') : undefined) ??
    needs.agent_modes?.map(([field, mode]) => modeRefusal(policy, field, mode)).find((refused) => refused !== undefined) ??
    over('max_budget_usd', needs.max_budget_usd, policy.max_budget_usd) ??
    over('max_turns', needs.max_turns, policy.max_turns) ??
    over('timeout_s', needs.timeout_s, policy.max_timeout_s)
  )
}

function modeRefusal({ permission_modes, bypass }: PolicyView, field: string, mode: string): Refusal | undefined {
  if (permission_modes.includes(mode) || (bypass && mode === 'bypassPermissions')) return undefined
  const allowed = bypass ? [...permission_modes, 'bypassPermissions'] : permission_modes
  return refusal(field, `${JSON.stringify(mode)} is not allowed on this machine; allowed are ${allowed.join(', ')}`)
}

function serverRefusal(known: readonly string[], named: readonly string[]): Refusal | undefined {
  const unknown = named.find((name) => !known.includes(name))
  if (unknown === undefined) return undefined
  const there = known.length === 0 ? 'it names none' : `it has ${known.join(', ')}`
  return refusal('mcp_servers', `${JSON.stringify(unknown)} is no MCP server of this machine; ${there}`)
}

function over(field: string, value: number | undefined, maximum: number | undefined): Refusal | undefined {
  if (maximum === undefined || value === undefined || value <= maximum) return undefined
  return refusal(field, `${value} is over what the owner of this machine allows: ${maximum}`)
}

const refusal = (field: string, why: string): Refusal => ({ field, message: `${field}: ${why}` })
