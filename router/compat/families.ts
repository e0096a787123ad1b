/** All dialects of older servers. No path is owned by two of them. */
import { claudeCodeServer } from './claude-code-server/family.ts'
import type { Family } from './family.ts'

export const FAMILIES: readonly Family[] = [claudeCodeServer]

export const familyOf = (path: string): Family | undefined => FAMILIES.find((family) => family.owns(path))
