/**
 * The `--settings` file of a run: its permission rules, and what the runner sees to itself.
 *
 * They are not on the command line because `--allowed-tools` splits its value at blanks and commas: `Read(a) Write(b)`,
 * one rule to whoever checked it, became two. In the file an entry stays one rule; one that the CLI cannot read is
 * ignored by itself and the others hold (seen on 2.1.197 for both lists).
 */
import { dirname, join } from 'node:path'
import type { RunSpec } from '../../shared/run-spec.ts'

/** Transcripts are the runner's to clean away: the CLI has an age of its own for them, 30 days unless it is told. */
const CLEANUP_DAYS = 36_500

/**
 * Of 2.1.197, where a pool has skills: none but its own, no command of a skill, and no mention of a file in what the model
 * calls one with. There `@path` would bring any file of the machine into the request, without any permission. A hook of
 * which it is the last word, as it is asked before permissions are.
 */
const SKILL_LOCKS = {
  disableBundledSkills: true,
  disableSkillShellExecution: true,
  hooks: {
    PreToolUse: [
      {
        matcher: 'Skill',
        hooks: [
          {
            type: 'command',
            command: `input=$(cat); case "$input" in *'"tool_input":'*@*) echo 'a skill cannot be called with an @' >&2; exit 2;; *'"tool_input":'*) exit 0;; *) exit 2;; esac`,
          },
        ],
      },
    ],
  },
} as const

export type ClaudeSettings = {
  permissions: { allow: readonly string[]; deny: readonly string[] }
  cleanupPeriodDays: number
  apiKeyHelper?: ''
  claudeMdExcludes?: readonly string[]
} & Partial<typeof SKILL_LOCKS>

export type SettingsParts = {
  /** The folder of a repository that counts. */
  trusted?: string | undefined
  /** The config directory, where it has any. */
  instructions?: string | undefined
  skills?: boolean
  /** Files and folders that no tool may open. Absolute. */
  closed?: readonly string[]
}

export function claudeSettings(spec: RunSpec, { trusted, instructions, skills = false, closed = [] }: SettingsParts = {}): ClaudeSettings {
  return {
    permissions: { allow: spec.allowed_tools ?? [], deny: [...(spec.disallowed_tools ?? []), ...closed.flatMap(closing)] },
    cleanupPeriodDays: CLEANUP_DAYS,
    // A repository's helper would be run, and its key sent beside ours. Nothing else of its settings reaches the provider:
    // the base URL and keys of its `env` are ignored under CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST (seen on 2.1.197).
    ...(trusted === undefined ? {} : { apiKeyHelper: '' }),
    ...(instructions === undefined ? {} : { claudeMdExcludes: [nothingBut(instructions, trusted)] }),
    ...(skills ? SKILL_LOCKS : {}),
  }
}

/**
 * By trying it on 2.1.197: before any rule that allows, for Read, Edit and Write, for the results of Grep and Glob too,
 * and for commands of Bash that name the path, as `cat` and `>` do; not for what a program that Bash starts finds by
 * itself. Links are followed. The rule is a pattern of gitignore, where a `?` is any sign.
 */
function closing(path: string): string[] {
  const pattern = path.replaceAll(/[^\p{L}\p{N}/._-]/gu, (sign) => '?'.repeat(sign.length))
  return ['Read', 'Edit'].flatMap((tool) => [`${tool}(/${pattern})`, `${tool}(/${pattern}/**)`])
}

/**
 * A second lock on imports, behind shared/config-content.ts: the CLI follows `@path` in its user's instructions wherever it
 * leads, but to no file that matches one of `claudeMdExcludes`, as does every one that is not named here (2.1.197).
 */
function nothingBut(configDir: string, trusted: string | undefined): string {
  const its = trusted === undefined ? [] : [`${plain(trusted)}/**`, ...above(trusted).flatMap(instructionsOf)]
  return `!{${[`${plain(configDir)}/CLAUDE.md`, `${plain(configDir)}/rules/*.md`, ...its].join(',')}}`
}

/** What the CLI reads of the folders above as well, by itself: to import it brings nothing new. */
const instructionsOf = (folder: string): string[] => ['CLAUDE.md', '.claude/CLAUDE.md', '.claude/rules/**'].map((name) => join(plain(folder), name))

const above = (path: string): string[] => (dirname(path) === path ? [] : [dirname(path), ...above(dirname(path))])

/** A backslash escapes nothing there: it is read as a slash. */
const plain = (path: string): string => path.replaceAll(/[^\p{L}\p{N}/._-]/gu, '?')
