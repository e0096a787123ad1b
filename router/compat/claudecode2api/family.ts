/** claudecode2api (FastAPI): `/chat` and `/processes`. Its `/health` is everybody's. */
import { newRouter } from '../../guard/router.ts'
import type { Family } from '../family.ts'
import { chat } from './chat.ts'
import { processes } from './processes.ts'
import { refuse } from './refuse.ts'

const routes = newRouter()
routes.route('/', chat)
routes.route('/', processes)

export const claudecode2api: Family = {
  name: 'claudecode2api',
  // `/` answers to everybody who asks what this is, whichever dialects are spoken.
  owns: (path) => /^\/(?:chat|processes)(?:\/|$)/.test(path),
  refuse,
  routes,
}
