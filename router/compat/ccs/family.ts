/** The dialect of ccs: all of `/api/` but `/api/claude`, which is another server's. */
import { newRouter } from '../../guard/router.ts'
import type { Family } from '../family.ts'
import { config } from './config.ts'
import { loadBalance } from './load-balance.ts'
import { messages } from './messages.ts'
import { projects } from './projects.ts'
import { refuse } from './refuse.ts'
import { sessionRoutes } from './session-routes.ts'
import { statistics } from './statistics.ts'
import { tasks } from './tasks.ts'
import { turns } from './turns.ts'

const MIB = 1024 * 1024

const routes = newRouter()
for (const part of [messages, tasks, turns, sessionRoutes, statistics, projects, config, loadBalance]) routes.route('/', part)

export const ccs: Family = {
  name: 'ccs',
  owns: (path) => path.startsWith('/api/') && path !== '/api/claude',
  maxBody: 10 * MIB,
  refuse,
  routes,
}
