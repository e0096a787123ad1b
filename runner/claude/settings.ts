/**
 * The `--settings` file of a run: its permission rules, and what the runner sees to itself.
 *
 * They are not on the command line because `--allowed-tools` splits its value at blanks and commas: `Read(a) Write(b)`,
 * one rule to whoever checked it, became two. In the file an entry stays one rule; one that the CLI cannot read is
 * ignored by itself and the others hold (seen on 2.1.197 for both lists).
 */
import type { RunSpec } from '../../shared/run-spec.ts'

/** Transcripts are the runner's to clean away: the CLI has an age of its own for them, 30 days unless it is told. */
const CLEANUP_DAYS = 36_500

export type ClaudeSettings = {
  permissions: { allow: readonly string[]; deny: readonly string[] }
  cleanupPeriodDays: number
  apiKeyHelper?: ''
}

export function claudeSettings(spec: RunSpec, trusted = false): ClaudeSettings {
  return {
    permissions: { allow: spec.allowed_tools ?? [], deny: spec.disallowed_tools ?? [] },
    cleanupPeriodDays: CLEANUP_DAYS,
    // A repository's helper would be run, and its key sent beside ours. Nothing else of its settings reaches the provider:
    // the base URL and keys of its `env` are ignored under CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST (seen on 2.1.197).
    ...(trusted ? { apiKeyHelper: '' } : {}),
  }
}
