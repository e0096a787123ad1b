/**
 * Files that a router keeps for the CLI on all runners of a pool. Names and sizes are those of claude-code-server, whose
 * clients keep theirs by the same rules.
 */
import { z } from 'zod'

/** `claude-md` is the one CLAUDE.md. */
export const CONFIG_KINDS = ['agents', 'skills', 'rules', 'claude-md'] as const
export const ConfigKind = z.enum(CONFIG_KINDS)
export type ConfigKind = z.infer<typeof ConfigKind>
export type NamedConfigKind = Exclude<ConfigKind, 'claude-md'>

export const MAX_CONFIG_NAME_CHARS = 60
export const ConfigName = z
  .string()
  .max(MAX_CONFIG_NAME_CHARS)
  .regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, 'must be lower case letters and digits, in words joined by single dashes')
export const ConfigContent = z.string().min(1).max(500_000)

/** Characters of all files of one pool. */
export const MAX_CONFIG_CHARS = 4_000_000
export const MAX_CONFIG_FILES = 500

export const ConfigFile = z.object({ kind: ConfigKind, name: z.union([ConfigName, z.literal('')]), content: ConfigContent })
export type ConfigFile = z.infer<typeof ConfigFile>

/** Its path inside the CLI's config directory. */
export function configPath({ kind, name }: Pick<ConfigFile, 'kind' | 'name'>): string {
  if (kind === 'claude-md') return 'CLAUDE.md'
  return kind === 'skills' ? `skills/${name}/SKILL.md` : `${kind}/${name}.md`
}
