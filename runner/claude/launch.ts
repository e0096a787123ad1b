/**
 * What a CLI is started with: its command line, its environment, and the files that the command line names. And what of it
 * makes two processes the same, so that one may stand in for the other.
 */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ConfigFile } from '../../shared/config-files.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Trust } from '../trust.ts'
import { claudeArgv, type ClaudeFiles } from './argv.ts'
import { initializeLine } from './input.ts'
import { claudeSettings, type ClaudeSettings } from './settings.ts'

/** All that is fixed when a CLI is started. */
export type Launch = {
  /** Path of the CLI. */
  claude: string
  /** The command line of its sandbox, to which the CLI and its arguments are added. */
  prefix?: readonly string[]
  /** Its `prompt` is not read; the ids of its `session` are the CLI's own. */
  spec: RunSpec
  cwd: string
  /** What of the repository counts, where the owner trusts it. */
  trust?: Trust | undefined
  /** Further folders that tools may work in. */
  dirs?: readonly string[]
  /** What its tools may not open. Absolute. */
  closed?: readonly string[]
  /** MCP servers of the owner's that the run names. */
  mcpServers?: Readonly<Record<string, unknown>>
  /** `CLAUDE_CONFIG_DIR` of `env`. */
  configDir: string
  /** What of its pool's files is in there. */
  files?: readonly ConfigFile[]
  /** A folder of this run (0700) for what others must not read. The caller removes it. */
  privateDir: string
  /** The whole environment, from `claudeEnv`. */
  env: Readonly<Record<string, string>>
  /** The marker in `env`. */
  marker: string
  log: (message: string, fields: Record<string, unknown>) => void
}

export type Command = { file: string; argv: string[]; env: Record<string, string> }

/** Writes the files that it names. */
export function commandOf(launch: Launch): Command {
  const files = writeFiles(launch)
  const [file = launch.claude, ...argv] = commandLine(launch, files)
  return { file, argv, env: environment(launch) }
}

/**
 * Equal for two launches when a process of the one is as good as one of the other for a first turn. Everything that is
 * fixed at the start counts, in the very form in which the CLI gets it, but for its session and for `own`: values that are
 * made for each process, such as a folder or a token. A hash, because there may be keys in it.
 */
export function configurationOf(launch: Launch, own: readonly string[]): string {
  const spec: RunSpec = { ...launch.spec, session: { mode: 'new', id: '' } }
  const fixed = {
    tenant: spec.tenant,
    cwd: launch.cwd,
    command: commandLine({ ...launch, spec }, filesOf(launch)),
    settings: settingsOf(launch),
    mcp: mcpConfigOf(launch),
    initialize: initializeLine('', spec),
    env: Object.entries(environment(launch)).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    files: launch.files ?? [],
  }
  const text = [launch.privateDir, launch.marker, ...own].reduce((all, one) => all.replaceAll(JSON.stringify(one).slice(1, -1), ''), JSON.stringify(fixed))
  return createHash('sha256').update(text).digest('base64url')
}

/** It has processes beside it, or hooks that start some without a word. */
export function startsProcesses(launch: Launch): boolean {
  return launch.trust !== undefined || mcpConfigOf(launch) !== undefined
}

function commandLine(launch: Launch, files: ClaudeFiles): string[] {
  const { prefix = [], claude, spec, trust, dirs = [] } = launch
  return [...prefix, claude, ...claudeArgv(spec, files, { trusted: trust !== undefined, dirs, skills: hasSkills(launch) })]
}

function environment(launch: Launch): Record<string, string> {
  return {
    ...launch.env,
    // Outputs of tools and folders of sessions, which the CLI leaves behind in /tmp/claude-<uid>, go with the process.
    CLAUDE_CODE_TMPDIR: launch.privateDir,
    // Without it a first turn may begin before its servers are there, and its model not know of their tools.
    ...(mcpConfigOf(launch) === undefined ? {} : { MCP_CONNECTION_NONBLOCKING: '0' }),
  }
}

function filesOf(launch: Launch): ClaudeFiles {
  const settings = join(launch.privateDir, 'settings.json')
  return mcpConfigOf(launch) ? { settings, mcpConfig: join(launch.privateDir, 'mcp.json') } : { settings }
}

/** Anew for each start: what a run may do is not left over from another. */
function writeFiles(launch: Launch): ClaudeFiles {
  const files = filesOf(launch)
  const write = (path: string, content: unknown) => writeFileSync(path, JSON.stringify(content), { mode: 0o600 })
  write(files.settings, settingsOf(launch))
  if (files.mcpConfig !== undefined) write(files.mcpConfig, mcpConfigOf(launch))
  return files
}

function settingsOf(launch: Launch): ClaudeSettings {
  const { spec, trust, cwd, configDir, files = [], closed = [] } = launch
  const instructions = files.length > 0 ? configDir : undefined
  return claudeSettings(spec, { trusted: trust && cwd, instructions, skills: hasSkills(launch), closed })
}

/** A run that cannot use them keeps the lock that they cost. */
function hasSkills({ files = [], spec }: Launch): boolean {
  if (spec.disallowed_tools?.includes('Skill') || (spec.tools && !spec.tools.includes('Skill'))) return false
  return files.some(({ kind }) => kind === 'skills')
}

/** A server that the run brings takes the place of one of the repository, and one of the owner's that of either. */
function mcpConfigOf({ spec, trust, mcpServers: owned = {} }: Launch): RunSpec['mcp_config'] {
  const found = trust?.mcpServers ?? {}
  if (Object.keys({ ...found, ...owned }).length === 0) return spec.mcp_config
  return { ...spec.mcp_config, mcpServers: { ...found, ...(spec.mcp_config?.['mcpServers'] as object | undefined), ...owned } }
}
