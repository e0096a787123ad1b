/** claude-code-api (Fastify): `POST /api/claude`. What else is under `/api` belongs to ccs, which had this path too once. */
import type { Family } from '../family.ts'
import { claude } from './claude.ts'
import { refuse } from './refuse.ts'

export const claudeCodeApi: Family = {
  name: 'claude_code_api',
  owns: (path) => path === '/api/claude',
  refuse,
  routes: claude,
}
