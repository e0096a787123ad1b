/** `/api/projects`: the directories that sessions live in. A project is there for as long as a session of it is. */
import { createRoute, z } from '@hono/zod-openapi'
import { sql } from 'drizzle-orm'
import { Fault } from '../../../shared/faults.ts'
import { deleteSession } from '../../engine/sessions.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import type { Deps } from '../../ports.ts'
import { deleteSessions } from '../../store/sessions.ts'
import { joi } from './joi.ts'
import { eachOf } from './lanes.ts'
import { PROJECT_ORDERS, readProjects, sessionsIn, sumProjects } from './queries.ts'
import { json, refusals, startRefusals } from './schemas.ts'

/** Sessions whose turns are ended at once. The CLI is killed within about six seconds. */
const AT_ONCE = 32
/** After this no more are begun with. */
const MOST_MS = 15_000

const success = z.literal(true)
const read = { method: 'get' as const, tags: ['ccs'], middleware: [requireScope('sessions:read')] }

const Project = z
  .object({ path: z.string(), session_count: z.int(), messages_count: z.int(), total_cost_usd: z.number(), last_activity: z.iso.datetime() })
  .openapi('CcsProject')
const list = createRoute({
  ...read,
  path: '/api/projects',
  summary: 'Directories that sessions live in',
  request: {
    query: z.strictObject({
      limit: z.coerce.number().pipe(z.int().min(1).max(1_000)).default(50),
      sort_by: z.enum(PROJECT_ORDERS).default('last_activity'),
      order: z.enum(['asc', 'desc']).default('desc'),
    }),
  },
  responses: {
    200: { description: 'The projects.', content: json(z.object({ success, projects: z.array(Project), count: z.int() }).openapi('CcsProjects')) },
    ...refusals,
  },
})
const totals = { total_projects: z.int(), total_sessions: z.int(), total_messages: z.int(), total_cost_usd: z.number() }
const Stats = z.object({ ...totals, last_activity: z.iso.datetime().nullable() })
const stats = createRoute({
  ...read,
  path: '/api/projects/stats',
  summary: 'The same of all of them together',
  responses: { 200: { description: 'The numbers.', content: json(z.object({ success, stats: Stats }).openapi('CcsProjectStats')) }, ...refusals },
})
const Gone = z.object({ success, message: z.string(), deleted_sessions: z.int() }).openapi('CcsDeletedProject')

export const projects = newRouter(joi)

projects.openapi(list, async (c) => {
  const { limit, sort_by: by, order } = c.req.valid('query')
  const rows = await readProjects(c.get('deps').store, c.get('principal').tenant, { by, ascending: order === 'asc', limit })
  const view = rows.map(({ path, sessions, messages, usd, last }) => ({
    path,
    session_count: sessions,
    messages_count: messages,
    total_cost_usd: usd,
    last_activity: new Date(last).toISOString(),
  }))
  return c.json({ success: true as const, projects: view, count: view.length }, 200)
})

projects.openapi(stats, async (c) => {
  const all = await sumProjects(c.get('deps').store, c.get('principal').tenant)
  const last_activity = all.last === null ? null : new Date(all.last).toISOString()
  const sums = { total_projects: all.projects, total_sessions: all.sessions, total_messages: all.messages, total_cost_usd: all.usd, last_activity }
  return c.json({ success: true as const, stats: sums }, 200)
})

// The rest of the path is a path itself, which OpenAPI has no word for: it is documented by hand.
projects.openAPIRegistry.registerPath({
  method: 'delete',
  path: '/api/projects/{path}',
  tags: ['ccs'],
  summary: 'Take all sessions of a directory away',
  description: 'Turns of them that are under way are ended; the directory itself stays.',
  request: { params: z.object({ path: z.string().max(4_096).openapi({ description: 'As it is listed, with or without its first slash, encoded or not.' }) }) },
  responses: { 200: { description: 'They are gone.', content: json(Gone) }, ...startRefusals },
})
projects.delete('/api/projects/*', requireScope('sessions:write'), async (c) => {
  const deps = c.get('deps')
  const { tenant } = c.get('principal')
  const path = pathOf(new URL(c.req.url).pathname)
  // Between two slashes of a URL is nothing, so clients leave the first one out.
  for (const cwd of [path, `/${path}`]) {
    const deleted = await emptied(deps, tenant, cwd)
    if (deleted > 0) return c.json({ success: true as const, message: 'Project deleted', deleted_sessions: deleted }, 200)
  }
  throw new Fault('not_found', 'Project not found')
})

/** How many sessions it had. Throws `session_busy` when ending their turns takes too long; whoever asks again goes on there. */
async function emptied(deps: Deps, tenant: string, cwd: string): Promise<number> {
  const { store, platform } = deps
  const idle = await deleteSessions(store, sql`its.tenant = ${tenant} AND its.cwd = ${cwd}`, platform.now())
  if (idle > 0) deps.outbox?.nudge(tenant)
  const busy = await sessionsIn(store.db, tenant, cwd)
  const late = AbortSignal.timeout(MOST_MS)
  await eachOf(busy, AT_ONCE, async (id) => {
    if (late.aborted) throw new Fault('session_busy', 'some sessions of it have a turn in progress', { retryAfterS: 2 })
    await deleteSession(deps, tenant, id, { running: 'cancel' }).catch(unlessGone)
  })
  return idle + busy.length
}

function pathOf(pathname: string): string {
  try {
    return decodeURIComponent(pathname.slice('/api/projects/'.length)).slice(0, 4_097)
  } catch {
    throw new Fault('invalid_request', '"path" must be encoded as a URL is', { extra: { field: 'path' } })
  }
}

/** Somebody else was faster. */
function unlessGone(error: unknown): void {
  if (!(error instanceof Fault) || error.code !== 'session_not_found') throw error
}
