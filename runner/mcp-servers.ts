/**
 * MCP servers that the owner of the machine names in `[mcp_servers.<name>]` of `runner.toml`, and that runs may ask for by
 * that name. A run never sees or sets their commands; what their tools may do is its permission rules' business.
 *
 * Values of `env`, `headers` and `url` may have `${NAME}` in them, a variable of the runner's environment. It is put in
 * here: the CLI knows the same notation, but its environment has none of the owner's variables.
 */
import { z } from 'zod'
import { Fault } from '../shared/faults.ts'
import { MAX_MCP_SERVERS } from '../shared/policy.ts'
import { McpServerName } from '../shared/run-spec.ts'

type Environment = Readonly<Record<string, string | undefined>>

const VARIABLE = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g
const text = z.string().max(8_192)
/** Anybody on the machine reads command lines, and the CLI would put its own variables in. */
const plain = text.refine((value) => !value.includes('${'), 'cannot have a variable: put it into env')
const Reads = z.array(z.string().startsWith('/', 'must be an absolute path').max(4_096)).max(32)

const Stdio = z.strictObject({
  type: z.literal('stdio').optional(),
  command: plain.min(1),
  args: z.array(plain).max(128).default([]),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'must be the name of an environment variable'), text).default({}),
  /** Files and folders that it needs and that a `bwrap` sandbox would not show. */
  reads: Reads.default([]),
})
const Remote = z.strictObject({
  type: z.enum(['http', 'sse']).default('http'),
  url: text.regex(/^https?:\/\//, 'must be an http or https URL'),
  headers: z.record(z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, 'must be the name of a header'), text).default({}),
})
type Stdio = z.infer<typeof Stdio>

/** One of both: which of them is told by `url`, so that what is wrong is named by its key. */
export const McpServer = z.unknown().transform((value, context) => {
  const remote = typeof value === 'object' && value !== null && 'url' in value
  const read = (remote ? Remote : Stdio).safeParse(value)
  if (read.success) return read.data
  for (const { path, message } of read.error.issues) context.addIssue({ code: 'custom', path: [...path], message })
  return z.NEVER
})
export type McpServer = z.infer<typeof McpServer>
export const McpServers = z
  .record(McpServerName, McpServer)
  .refine((servers) => Object.keys(servers).length <= MAX_MCP_SERVERS, `has more than ${MAX_MCP_SERVERS} servers`)
export type McpServers = z.infer<typeof McpServers>

/** The variables that servers name and that are not there, each with the first server that does. */
export function missingVariables(servers: McpServers, env: Environment): { server: string; variable: string }[] {
  const missing = new Map<string, string>()
  for (const [server, definition] of Object.entries(servers)) {
    for (const variable of namedIn(definition)) if (env[variable] === undefined && !missing.has(variable)) missing.set(variable, server)
  }
  return [...missing].map(([variable, server]) => ({ server, variable }))
}

/** Some value that is not a variable as a whole may be a secret: such a file is for its owner only. */
export function holdsValues(servers: McpServers): boolean {
  return Object.values(servers).some((server) => values(server).some((value) => value.replaceAll(VARIABLE, '').trim() !== ''))
}

/** Servers of the owner's that a run names, as the CLI wants them, and the paths that a sandbox has to show them. */
export type OwnServers = { readonly entries: Readonly<Record<string, unknown>>; readonly reads: readonly string[] }

/**
 * What the CLI is given of those that a run names, as entries of `mcpServers`, and what a sandbox has to show for them.
 * Every name is one of `servers`. Throws `Fault('policy')` when a variable is gone.
 */
export function mcpServersFor(
  servers: McpServers,
  names: readonly string[],
  env: Environment,
): OwnServers {
  const named = [...new Set(names)].map((name) => [name, servers[name]!] as const)
  const [gone] = missingVariables(Object.fromEntries(named), env)
  if (gone) {
    throw new Fault('policy', `mcp_servers: ${gone.server} needs the variable ${gone.variable}, which this runner does not have`, {
      extra: { field: 'mcp_servers' },
    })
  }
  return {
    entries: Object.fromEntries(named.map(([name, server]) => [name, filledIn(server, env)])),
    reads: named.flatMap(([, server]) => readsOf(server)),
  }
}

/** As the owner may be shown them, on a screen and in a file: variables by their names, and of values that they are there. */
export function hidingValues(servers: McpServers): McpServers {
  const hide = (value: string) => (value.replaceAll(VARIABLE, '').trim() === '' ? value : '…')
  const hideAll = (record: Record<string, string>) => Object.fromEntries(Object.entries(record).map(([key, value]) => [key, hide(value)]))
  return Object.fromEntries(
    Object.entries(servers).map(([name, server]) => {
      if (!('url' in server)) return [name, { ...server, env: hideAll(server.env) }]
      // A path may be a secret, as with services that give each customer a URL.
      const host = /^https?:\/\/[^/?#@]+(?=[/?#]|$)/.exec(server.url)?.[0]
      const url = host === undefined ? 'https://…' : host === server.url ? host : `${host}/…`
      return [name, { ...server, url, headers: hideAll(server.headers) }]
    }),
  )
}

function filledIn(server: McpServer, env: Environment): unknown {
  const fill = (value: string) => value.replaceAll(VARIABLE, (_whole, name: string) => env[name] ?? '')
  const fillAll = (record: Record<string, string>) => Object.fromEntries(Object.entries(record).map(([key, value]) => [key, fill(value)]))
  if ('url' in server) return { type: server.type, url: fill(server.url), headers: fillAll(server.headers) }
  const { command, args } = server
  return { type: 'stdio', command, args, env: fillAll(server.env) }
}

function readsOf(server: McpServer): string[] {
  if ('url' in server) return []
  return [...(server.command.startsWith('/') ? [server.command] : []), ...server.reads]
}

function values(server: McpServer): string[] {
  return 'url' in server ? Object.values(server.headers) : Object.values(server.env)
}

function namedIn(server: McpServer): string[] {
  const texts = 'url' in server ? [server.url, ...values(server)] : values(server)
  return texts.flatMap((value) => [...value.matchAll(VARIABLE)].map(([, name]) => name!))
}
