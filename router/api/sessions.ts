/** `/v1/sessions`: prepare one, find it, name it, put it aside, take it away. What was said in one is in session-messages.ts. */
import { createRoute, z } from '@hono/zod-openapi'
import { changeSession, createSession, deleteSession, listSessions, sessionStats, viewSession, type SessionQuery as Query } from '../engine/sessions.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { NO_TOTALS } from '../store/session-pages.ts'
import { notFound, problem, problems } from './run-schemas.ts'
import { DeleteQuery, SearchQuery, Session, SessionPage, SessionPatch, SessionQuery, SessionRequest, SessionStats, sessionView, statsView } from './session-schemas.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const path = '/v1/sessions' as const
const one = `${path}/{id}` as const
const reads = { tags: ['sessions'], middleware: [requireScope('sessions:read')] }
const writes = { tags: ['sessions'], middleware: [requireScope('sessions:write')] }
const bodies = { 413: problem('The body is larger than 1 MiB.'), 415: problem('The body is not JSON.') }

const list = createRoute({
  ...reads,
  method: 'get',
  path,
  summary: 'Sessions, the one that was used last first',
  request: { query: SessionQuery },
  responses: { 200: { description: 'A page.', content: json(SessionPage) }, ...problems },
})

const create = createRoute({
  ...writes,
  method: 'post',
  path,
  summary: 'Prepare a session',
  description: 'It has an id and nothing else until a run names it: the first one opens it, in its directory and pool.',
  request: { body: { required: true, content: json(SessionRequest) } },
  responses: { 201: { description: 'The session; `Location` leads to it.', content: json(Session) }, ...problems, ...bodies },
})

const search = createRoute({
  ...reads,
  method: 'get',
  path: `${path}/search` as const,
  summary: 'Find sessions by what they hold',
  description:
    'Looks for `q` in titles, directories, values of metadata and the beginnings of prompts, and for ids that begin with it. A page may be short, or empty, while `next` leads on: it looks at 2,000 sessions at most.',
  request: { query: SearchQuery },
  responses: { 200: { description: 'A page.', content: json(SessionPage) }, ...problems },
})

const get = createRoute({
  ...reads,
  method: 'get',
  path: one,
  summary: 'One session',
  request: { params },
  responses: { 200: { description: 'The session.', content: json(Session) }, ...problems, ...notFound },
})

const patch = createRoute({
  ...writes,
  method: 'patch',
  path: one,
  summary: 'Rename a session, put it aside, or take it up again',
  request: { params, body: { required: true, content: json(SessionPatch) } },
  responses: { 200: { description: 'The session as it is now.', content: json(Session) }, ...problems, ...notFound, ...bodies },
})

const remove = createRoute({
  ...writes,
  method: 'delete',
  path: one,
  summary: 'Delete a session and what was said in it',
  description: 'Its runs stay, without their events and metadata, for statistics. The transcript on the disk of its machine is not touched.',
  request: { params, query: DeleteQuery },
  responses: { 204: { description: 'It is gone.' }, ...problems, ...notFound, 409: problem('A turn of it waits or is under way.') },
})

const stats = createRoute({
  ...reads,
  method: 'get',
  path: `${one}/stats` as const,
  summary: 'What the runs of a session add up to',
  request: { params },
  responses: { 200: { description: 'The sums.', content: json(SessionStats) }, ...problems, ...notFound },
})

export const sessions = newRouter()

sessions.openapi(list, async (c) => {
  const { before: cursor, ...query } = c.req.valid('query')
  return c.json(await pageOf(c.get('deps'), c.get('principal').tenant, { ...query, cursor }), 200)
})

sessions.openapi(create, async (c) => {
  const row = await createSession(c.get('deps'), c.get('principal'), c.req.valid('json'))
  c.header('location', `${path}/${row.id}`)
  return c.json(sessionView({ ...row, ...NO_TOTALS }), 201)
})

// In front of those with an id, which would take `search` for one.
sessions.openapi(search, async (c) => {
  const { before: cursor, ...query } = c.req.valid('query')
  return c.json(await pageOf(c.get('deps'), c.get('principal').tenant, { ...query, cursor }), 200)
})

sessions.openapi(get, async (c) => c.json(sessionView(await viewSession(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id)), 200))

sessions.openapi(patch, async (c) => {
  const { tenant } = c.get('principal')
  const { id } = c.req.valid('param')
  await changeSession(c.get('deps'), tenant, id, c.req.valid('json'))
  return c.json(sessionView(await viewSession(c.get('deps'), tenant, id)), 200)
})

sessions.openapi(remove, async (c) => {
  await deleteSession(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id, c.req.valid('query'))
  return c.body(null, 204)
})

sessions.openapi(stats, async (c) => {
  const { session, sums } = await sessionStats(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id)
  return c.json(statsView(session, sums), 200)
})

async function pageOf(deps: Parameters<typeof listSessions>[0], tenant: string, query: Query): Promise<z.infer<typeof SessionPage>> {
  const { sessions: rows, next } = await listSessions(deps, tenant, query)
  return { data: rows.map((row) => sessionView(row)), next }
}
