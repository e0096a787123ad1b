/**
 * What a body of `POST /chat` asks for, in the words of the run engine. What cannot be had here is refused by its name,
 * with what can be done instead; nothing that would run code of the caller's on the machine is passed on.
 */
import { Fault } from '../../../shared/faults.ts'
import { CliOptions, McpServerName, PermissionMode, RunSpec } from '../../../shared/run-spec.ts'
import { OnDisconnect, patienceMs } from '../kit/disconnect.ts'
import { rulesIn } from '../kit/rules.ts'
import { checkFields, unprocessable } from './pydantic.ts'
import { CHAT_FIELDS, type Chat } from './schemas.ts'

const DEFAULT_MODEL = 'sonnet'
/** `'a', 'b' or 'c'` */
const MODES = PermissionMode.options.map((mode) => `'${mode}'`).join(', ').replace(/, ([^,]+)$/, ' or $1')

export interface Wish {
  readonly prompt: string
  readonly cwd: string
  readonly cli: CliOptions
  readonly sessionId: string | undefined
  readonly fork: boolean
  readonly addDirs: readonly string[] | undefined
  readonly onDisconnectMs: number | null
  /** It names no model: the one in `cli` is what the original took. */
  readonly modelIsImplied: boolean
  /** It says nothing of permissions or tools: the original went without any check then. */
  readonly bypassIsImplied: boolean
}

/** Throws a 422 or 400 of the dialect. */
export function wishOf(body: unknown): Wish {
  const chat = checkFields(body, CHAT_FIELDS) as Chat
  const { model, on_disconnect: onDisconnect } = body as { model?: unknown; on_disconnect?: unknown }
  if (chat.prompt.trim() === '') throw mistake('prompt', chat.prompt, 'must not be blank: the CLI makes no turn of it')
  refuseUnsafe(chat)
  const patience = OnDisconnect.safeParse(onDisconnect ?? 'cancel')
  if (!patience.success) throw mistake('on_disconnect', onDisconnect, 'is cancel, detach or {"detach_for_s": seconds}')
  const sessionId = filled(chat.session_id)
  if (chat.fork_session === true && sessionId === undefined) throw mistake('fork_session', true, 'needs the session_id to fork from')
  return {
    prompt: chat.prompt,
    cwd: chat.cwd,
    cli: cliOf(chat, model === null),
    sessionId,
    fork: chat.fork_session ?? false,
    addDirs: addDirsOf(listed(chat.add_dir)),
    onDisconnectMs: patienceMs(patience.data),
    modelIsImplied: model === undefined,
    bypassIsImplied: chat.tools === undefined && listed(chat.allowed_tools) === undefined && filled(chat.permission_mode) === undefined,
  }
}

/** `''` and `[]` were as good as nothing, but for `tools`. */
const filled = (text: string | undefined) => (text === '' ? undefined : text)
const listed = (list: readonly string[] | undefined) => (list?.length === 0 ? undefined : list)
const keyed = (object: Record<string, unknown> | undefined) => (Object.keys(object ?? {}).length === 0 ? undefined : object)

function cliOf(chat: Chat, wantsNoModel: boolean): CliOptions {
  const asked: Record<string, unknown> = {
    model: filled(chat.model) ?? (wantsNoModel ? undefined : DEFAULT_MODEL),
    fallback_model: filled(chat.fallback_model),
    system_prompt: filled(chat.system_prompt),
    append_system_prompt: filled(chat.append_system_prompt),
    tools: chat.tools?.flatMap(rulesIn),
    allowed_tools: listed(chat.allowed_tools)?.flatMap(rulesIn),
    disallowed_tools: listed(chat.disallowed_tools)?.flatMap(rulesIn),
    permission_mode: filled(chat.permission_mode),
    json_schema: keyed(chat.json_schema),
    agents: keyed(chat.agents),
    ...mcpOf(listed(chat.mcp_config) ?? []),
  }
  const read = CliOptions.safeParse(asked)
  if (read.success) return read.data
  throw unprocessable(
    read.error.issues.map(({ path, message }) => {
      const loc = ['body', ...path.map((key) => (typeof key === 'number' ? key : String(key)))]
      const input = path.reduce<unknown>((at, key) => (Object(at) as Record<PropertyKey, unknown>)[key], asked) ?? null
      const modes = path[0] === 'permission_mode'
      const msg = modes ? `Input should be ${MODES}` : `Value error, ${message}`
      return { type: modes ? 'enum' : 'value_error', loc, msg, input }
    }),
  )
}

function addDirsOf(dirs: readonly string[] | undefined): readonly string[] | undefined {
  const read = RunSpec.shape.add_dirs.safeParse(dirs)
  if (read.success) return read.data
  throw mistake('add_dir', dirs, 'is up to 16 paths')
}

/** JSON is merged in order; a name is that of a server which the owner of the machine has set up. */
function mcpOf(entries: readonly string[]): { mcp_config?: unknown; mcp_servers?: string[] } {
  const names: string[] = []
  const configs: Record<string, unknown>[] = []
  for (const [i, entry] of entries.entries()) {
    if (entry.trimStart().startsWith('{')) configs.push(mcpServersIn(entry, i))
    else if (McpServerName.safeParse(entry).success) names.push(entry)
    else {
      throw new Fault('invalid_request', `mcp_config: ${quoted(entry)} is refused: a path would let a caller start programs of the machine; send the JSON itself, or the name of a server that the owner of the runner has set up`)
    }
  }
  return {
    ...(configs.length === 0 ? {} : { mcp_config: { mcpServers: Object.fromEntries(configs.flatMap(Object.entries)) as unknown } }),
    ...(names.length === 0 ? {} : { mcp_servers: names }),
  }
}

function mcpServersIn(text: string, i: number): Record<string, unknown> {
  const wrong = (why: string) => unprocessable([{ type: 'value_error', loc: ['body', 'mcp_config', i], msg: `Value error, ${why}`, input: text }])
  const servers = parse(text)?.['mcpServers']
  if (typeof servers !== 'object' || servers === null || Array.isArray(servers)) throw wrong('is no MCP configuration: {"mcpServers": {…}}')
  // What is merged with it would get it as its prototype, if anybody assigns it.
  if (Object.hasOwn(servers, '__proto__')) throw wrong('__proto__ is not the name of an MCP server')
  return servers as Record<string, unknown>
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}

/** Both may name hooks and programs, which the machine would run for whoever calls. */
function refuseUnsafe(chat: Chat): void {
  if (filled(chat.settings) !== undefined) {
    throw new Fault('invalid_request', 'settings: refused: they can name programs that the CLI runs; what is to hold for all runs belongs to the owner of the runner')
  }
  if (listed(chat.plugin_dir) !== undefined) {
    throw new Fault('invalid_request', 'plugin_dir: refused: plugins are programs of the machine; its owner can set up MCP servers and agents for runs to name')
  }
}

const quoted = (text: string) => JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text)

function mistake(field: string, input: unknown, why: string): Fault {
  return unprocessable([{ type: 'value_error', loc: ['body', field], msg: `Value error, ${why}`, input }])
}
