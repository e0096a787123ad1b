/**
 * What a run is asked to do, as the router tells a runner. Declarative: never argv, never a path on the router.
 * The runner holds every field against its owner's policy before it uses it.
 */
import { z } from 'zod'
import { Name, SessionId, TenantId } from './ids.ts'

/** The CLI's own list (claude-cli 2.1.197 takes any string, so it is checked here). */
export const PermissionMode = z.enum(['default', 'acceptEdits', 'plan', 'dontAsk', 'auto', 'bypassPermissions'])
export type PermissionMode = z.infer<typeof PermissionMode>

export const Effort = z.enum(['low', 'medium', 'high', 'xhigh', 'max'])

/** A tool, or a rule such as `Bash(npm test:*)`. A leading dash or a comma would become another argument. */
export const ToolRule = z
  .string()
  .max(512)
  .regex(/^[A-Za-z][A-Za-z0-9_.-]*(\([^,\r\n\0]*\))?$/, 'is not a tool name or a rule like Bash(git log:*)')
export const ToolName = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,127}$/, 'is not a tool name')

/** Model names are the provider's; only what could be mistaken for an argument or break a header is refused. */
export const ModelName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:/@[\]-]{0,127}$/, 'is not a model name')

export const AgentName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_:.-]{0,127}$/, 'is not an agent name')

export const McpServerName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'is not the name of an MCP server')

const text = (max: number) => z.string().max(max)

/** Deeper than any schema or agent that means well, and far from where a recursive reader runs out of stack. */
const MAX_DEPTH = 64
const shallow = <S extends z.ZodType>(schema: S) => schema.refine((value) => depthOf(value) <= MAX_DEPTH, `is nested deeper than ${MAX_DEPTH} levels`)

function depthOf(value: unknown): number {
  let depth = 0
  for (let level: unknown[] = [value]; level.length > 0 && depth <= MAX_DEPTH; depth++) {
    level = level.flatMap((v) => (typeof v === 'object' && v !== null ? Object.values(v) : []))
  }
  return depth
}

/** The fields of a run that the CLI itself understands; the native API takes the same names. */
export const CliOptions = z.object({
  model: ModelName.optional(),
  fallback_model: ModelName.optional(),
  system_prompt: text(262_144).optional(),
  append_system_prompt: text(262_144).optional(),
  tools: z.array(ToolName).max(128).optional(),
  allowed_tools: z.array(ToolRule).max(256).optional(),
  disallowed_tools: z.array(ToolRule).max(256).optional(),
  permission_mode: PermissionMode.optional(),
  agent: AgentName.optional(),
  agents: shallow(z.record(AgentName, z.record(z.string(), z.unknown()))).optional(),
  mcp_config: shallow(z.record(z.string(), z.unknown())).optional(),
  /** Servers that the owner of the machine has named in its `runner.toml`. */
  mcp_servers: z.array(McpServerName).max(32).optional(),
  json_schema: shallow(z.record(z.string(), z.unknown())).optional(),
  effort: Effort.optional(),
  max_turns: z.int().min(1).max(10_000).optional(),
  max_budget_usd: z.number().positive().max(100_000).optional(),
  include_partial_messages: z.boolean().optional(),
})
export type CliOptions = z.infer<typeof CliOptions>

/**
 * `new` fixes the id of a fresh conversation, `resume` continues it, `fork` continues `from` under the new `id`. `cli` is
 * the CLI's own id of what is continued, where it is another one.
 */
export const SessionUse = z.discriminatedUnion('mode', [
  z.object({ mode: z.literal('new'), id: SessionId }),
  z.object({ mode: z.literal('resume'), id: SessionId, cli: SessionId.optional() }),
  z.object({ mode: z.literal('fork'), id: SessionId, from: SessionId, cli: SessionId.optional() }),
])
export type SessionUse = z.infer<typeof SessionUse>

export const RunSpec = CliOptions.extend({
  tenant: TenantId,
  session: SessionUse,
  /** Absolute, or relative to the first workspace root. Absent: a fresh folder for the session. */
  cwd: z.string().min(1).max(4096).optional(),
  /** A folder of this name under the first workspace root, shared by all runs that name it; made where it is missing. Not beside `cwd`. */
  workspace: Name.optional(),
  /** Further folders that tools may work in, held to the same rules as `cwd`. */
  add_dirs: z.array(z.string().min(1).max(4096)).max(16).optional(),
  /** Bytes of output that are kept of it; the result always is. */
  max_log_bytes: z.int().min(65_536).max(1_099_511_627_776).optional(),
  prompt: text(1_048_576),
  /** What its token is good for; absent: any. */
  models: z.array(ModelName).max(64).optional(),
  /** Wall time from the start of the CLI, enforced by the runner. */
  timeout_s: z.int().min(1).max(86_400),
})
export type RunSpec = z.infer<typeof RunSpec>
