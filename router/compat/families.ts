/** All dialects of older servers. No path is owned by two of them. */
import { ccs } from './ccs/family.ts'
import { claudeCodeApi } from './claude-code-api/family.ts'
import { claudeCodeServer } from './claude-code-server/family.ts'
import { claudecode2api } from './claudecode2api/family.ts'
import type { Family } from './family.ts'

export const FAMILIES: readonly Family[] = [claudeCodeApi, claudecode2api, claudeCodeServer, ccs]

export const familyOf = (path: string): Family | undefined => FAMILIES.find((family) => family.owns(path))
