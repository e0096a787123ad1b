/**
 * The owner's last word on what runs may do on this machine: `runner.toml`, which no router can widen.
 *
 * Decides whether a run is within the policy and says by name what is not. Roots, environment and slots are enforced by
 * those who use them; what the CLI itself may touch is the sandbox's business.
 */
import { readFile } from 'node:fs/promises'
import { availableParallelism, totalmem } from 'node:os'
import { parse, TomlError } from 'smol-toml'
import { z } from 'zod'
import { Fault } from '../shared/faults.ts'
import { Name } from '../shared/ids.ts'
import { needsOf, PolicyView, refusalOf, type Refusal } from '../shared/policy.ts'
import { PermissionMode, type RunSpec } from '../shared/run-spec.ts'
import { hidingValues, McpServers } from './mcp-servers.ts'
import { SANDBOXES } from './sandbox.ts'

const MODES = PermissionMode.exclude(['bypassPermissions'])

const Folders = z.array(z.string().startsWith('/', 'must be an absolute path')).default([])

/** Every key of `runner.toml`, with its default. */
export const Policy = z.strictObject({
  /** Absolute paths of the folders that runs may work in, besides those of the command line. */
  workspaces: Folders,
  /**
   * Folders, inside those, whose own settings, hooks, instructions, agents and MCP servers count, as if the owner worked
   * there: they are commands that start on this machine. Whoever can write into one can have them run.
   */
  trusted_workspaces: Folders,
  /** Runs at the same time. Starting the CLI and streaming are bound by the processor, waiting for a model is not. */
  slots: z
    .int()
    .min(1)
    .max(1024)
    .default(() => Math.max(2, 2 * availableParallelism())),
  labels: z.record(Name, z.string().max(256)).default({}),
  permission_modes: z
    .array(MODES)
    .min(1)
    .max(MODES.options.length)
    .default([...MODES.options]),
  /** Runs without any permission check. Not an entry of `permission_modes`, so that nobody turns it on in a list. */
  bypass: z.boolean().default(false),
  /** Whether a run may name MCP servers, which are commands that start on this machine. */
  mcp_config: z.boolean().default(false),
  /** MCP servers of the owner's, which runs may name whether or not they may bring their own. */
  mcp_servers: McpServers.default({}),
  agents: z.boolean().default(true),
  system_prompts: z.boolean().default(true),
  /** Whether the router may keep agents, skills, rules and a CLAUDE.md here, for all runs. */
  config_files: z.boolean().default(true),
  /** Names of the runner's environment that the CLI and all its tools get to see. */
  env_allow: z.array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable')).default([]),
  /** What stands between a run and the machine. `auto`: a PID namespace where one can be made. */
  sandbox: z.enum(SANDBOXES).default('auto'),
  /** Whether a provider may be at a private, loopback or link-local address, which are those of the owner's own network. */
  allow_private_base_urls: z.boolean().default(false),
  max_budget_usd: z.number().positive().optional(),
  max_timeout_s: z.int().min(1).max(86_400).optional(),
  max_turns: z.int().min(1).max(10_000).optional(),
  /** What is kept of the output of one run, whatever it asks for. */
  max_log_mb: z.int().min(1).max(1_048_576).default(1_024),
  /** Folders that were made for sessions, and transcripts of any, are removed so long after their last run; 0: never. */
  workspace_days: z.int().min(0).max(36_500).default(30),
  /** The CLI of a session waits so long for its next turn; 0: none outlives its turn. */
  warm_idle_s: z.int().min(0).max(86_400).default(300),
  /** MiB of all CLIs that wait, spares included; 0: none does. Such a CLI has 150 to 200. */
  warm_memory_mb: z
    .int()
    .min(0)
    .max(1_048_576)
    .default(() => Math.min(2_048, Math.floor(totalmem() / 4 / 1_048_576))),
  /** CLIs that are started ahead for new sessions, of each configuration that is in use. */
  spares: z.int().min(0).max(2).default(2),
})
export type Policy = z.infer<typeof Policy>

/** Where each key of a policy comes from. `found`: the file is there. */
export const PolicySource = z.object({
  file: z.string(),
  found: z.boolean(),
  keys: z.record(z.string(), z.enum(['file', 'flag', 'default'])),
})
export type PolicySource = z.infer<typeof PolicySource>

/** What of it the router is told. `sandbox`: the one that runs are kept in, which the file may leave open. */
export function viewOf(policy: Policy, sandbox: string = policy.sandbox): PolicyView {
  return { ...PolicyView.parse({ ...policy, mcp_servers: Object.keys(policy.mcp_servers) }), sandbox }
}

/** What of it may be written down and shown: it has no secret. */
export function shown(policy: Policy): Policy {
  return { ...policy, mcp_servers: hidingValues(policy.mcp_servers) }
}

/** The file is there but says something that cannot be followed. The message names the file and the key. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'
}

/** Reads `runner.toml`. A file that is missing means the defaults, unless it is `required`. Throws a `PolicyError`. */
export async function loadPolicy(file: string, options: { required?: boolean } = {}): Promise<Policy> {
  return (await readPolicy(file, options)).policy
}

/** The same, and what of it the file says. */
export async function readPolicy(
  file: string,
  options: { required?: boolean } = {},
): Promise<{ policy: Policy; source: PolicySource }> {
  const text = await textOf(file, options)
  const policy = parsePolicy(text ?? '', file)
  const said = new Set(Object.keys(parse(text ?? '')))
  const keys = Object.keys(Policy.shape).map((key) => [key, said.has(key) ? 'file' : 'default'] as const)
  return { policy, source: { file, found: text !== undefined, keys: Object.fromEntries(keys) } }
}

async function textOf(file: string, options: { required?: boolean }): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    if (missing && options.required !== true) return undefined
    throw new PolicyError(`${file}: ${missing ? 'there is no such file' : 'cannot be read'}`, { cause: error })
  }
}

/** `file` is only for the message. */
export function parsePolicy(text: string, file: string): Policy {
  let table: unknown
  try {
    table = parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    throw new PolicyError(`${file}: line ${error.line} is not valid TOML`, { cause: error })
  }
  const parsed = Policy.safeParse(table)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  if (issue?.code === 'unrecognized_keys') {
    throw new PolicyError(
      `${file}: there is no setting ${issue.keys.join(', ')}; there are ${Object.keys(Policy.shape).join(', ')}`,
    )
  }
  throw new PolicyError(`${file}: ${issue?.path.join('.') || 'the file'}: ${issue?.message ?? 'is not valid'}`)
}

/**
 * Holds a run against the policy. Throws `Fault('policy')` with `extra.field` and a message that names the field and what
 * the owner allows. A limit of the owner's that the run does not name is none here: `withLimits` puts it into the spec.
 */
export function checkPolicy(policy: Policy, spec: RunSpec): void {
  const refused = refusalOf(viewOf(policy), needsOf(spec)) ?? agentRefusal(spec.agents ?? {})
  if (refused) throw new Fault('policy', refused.message, { extra: { field: refused.field } })
}

/** The spec with the owner's limits where it names none; one that it names is kept, and held against them by `checkPolicy`. */
export function withLimits(policy: Policy, spec: RunSpec): RunSpec {
  return {
    ...spec,
    ...(spec.max_budget_usd === undefined && policy.max_budget_usd !== undefined
      ? { max_budget_usd: policy.max_budget_usd }
      : {}),
    ...(spec.max_turns === undefined && policy.max_turns !== undefined ? { max_turns: policy.max_turns } : {}),
  }
}

/**
 * What the definition of an agent may hold. The CLI takes more, and means it: in 2.1.197 `hooks` runs commands in any
 * permission mode, `mcpServers` starts commands in spite of `--strict-mcp-config`, and the `permissionMode` of a subagent
 * replaces that of the run; bypass even as root, where the flag is refused.
 */
const AGENT_KEYS = new Set(['description', 'prompt', 'tools', 'disallowedTools', 'model', 'maxTurns', 'effort', 'permissionMode'])

function agentRefusal(agents: NonNullable<RunSpec['agents']>): Refusal | undefined {
  for (const [name, definition] of Object.entries(agents)) {
    const key = Object.keys(definition).find((k) => !AGENT_KEYS.has(k))
    if (key === undefined) continue
    const field = `agents.${name}.${key}`
    return { field, message: `${field}: an agent of a run may only have ${[...AGENT_KEYS].join(', ')}` }
  }
  return undefined
}
