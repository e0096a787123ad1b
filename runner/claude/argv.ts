/**
 * The command line of the CLI: a constant row of `--flag=value` tokens, of which only checked values vary.
 *
 * It decides nothing about policy: the spec was held against the owner's rules before. No text of a user, nothing long
 * and nothing secret is here, because any local user reads argv in `ps` and one argument ends at 131,071 bytes:
 * the prompt goes by stdin, prompts of the system, agents and the JSON schema by `initialize` (input.ts), permission
 * rules and MCP servers by files (settings.ts).
 */
import type { RunSpec, SessionUse } from '../../shared/run-spec.ts'

export type ClaudeFiles = { settings: string; mcpConfig?: string }

/** `-p` in first place costs 13 % of the start (measured on 2.1.197), so it is not there. */
const CONSTANT = [
  '--input-format=stream-json',
  '--output-format=stream-json',
  '--verbose',
  '--strict-mcp-config',
] as const
/**
 * Behind the newline guard of input.ts, a second lock on `/config k=v`, which writes settings that outlive the run. Its
 * price on 2.1.197: skills and the Skill tool are gone; agents, also of files, are not touched. Where there are skills,
 * the locks of settings.ts take its place, and the settings are made anew before each start.
 */
const NO_COMMANDS = '--disable-slash-commands'

export type ArgvParts = {
  /** The repository's own settings, hooks and instructions count too. */
  trusted?: boolean
  /** Absolute. */
  dirs?: readonly string[]
  /** The pool has skills. */
  skills?: boolean
}

export function claudeArgv(spec: RunSpec, files: ClaudeFiles, { trusted = false, dirs = [], skills = false }: ArgvParts = {}): string[] {
  return [
    ...CONSTANT,
    ...(skills ? [] : [NO_COMMANDS]),
    '-p',
    // A repository's settings redirect the API, run hooks and set modes; `user` reads the runner's own config dir only.
    // `local` would add what a person, or an earlier run, keeps beside the repository.
    `--setting-sources=${trusted ? 'user,project' : 'user'}`,
    // Resuming does not restore the mode, and a settings file may name another one.
    `--permission-mode=${spec.permission_mode ?? 'default'}`,
    `--settings=${files.settings}`,
    // Without a model the CLI takes the account's default, which nobody here can know. An empty value is taken literally.
    ...flag('model', spec.model),
    ...flag('fallback-model', spec.fallback_model),
    ...flag('effort', spec.effort),
    ...flag('agent', spec.agent),
    ...flag('max-turns', spec.max_turns?.toString()),
    ...flag('max-budget-usd', spec.max_budget_usd?.toString()),
    // The empty list is `--tools=`: no built-in tool at all.
    ...flag('tools', spec.tools?.join(',')),
    ...flag('mcp-config', files.mcpConfig),
    ...dirs.map((dir) => `--add-dir=${dir}`),
    ...(spec.include_partial_messages === true ? ['--include-partial-messages'] : []),
    ...session(spec.session),
  ]
}

function flag(name: string, value: string | undefined): string[] {
  return value === undefined ? [] : [`--${name}=${value}`]
}

function session(use: SessionUse): string[] {
  if (use.mode === 'new') return [`--session-id=${use.id}`]
  if (use.mode === 'resume') return [`--resume=${use.id}`]
  return [`--resume=${use.from}`, '--fork-session', `--session-id=${use.id}`]
}
