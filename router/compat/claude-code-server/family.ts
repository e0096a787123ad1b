/** claude-code-server (Fastify, v0.2.0): `/ask` and the files of the CLI under `/config`. Its `/health` is everybody's. */
import { newRouter } from '../../guard/router.ts'
import type { Family } from '../family.ts'
import { ask } from './ask.ts'
import { configRoutes } from './config.ts'
import { rateHeaders } from './rates.ts'
import { refuse, sayInvalid } from './words.ts'

const routes = newRouter(sayInvalid)
routes.use('/ask', rateHeaders)
routes.use('/config/*', rateHeaders)
routes.route('/', ask)
routes.route('/', configRoutes)

export const claudeCodeServer: Family = {
  name: 'claude_code_server',
  owns: (path) => /^\/(?:ask|config)(?:\/|$)/.test(path),
  refuse,
  routes,
}
