/** `/api/sessions`: made, found, listed, put aside, taken away, and what was said in them. Their turns are in turns.ts. */
import { createRoute, z } from '@hono/zod-openapi'
import { ModelName } from '../../../shared/run-spec.ts'
import { Fault } from '../../../shared/faults.ts'
import { SESSION_STATUSES } from '../../../drizzle/schema.ts'
import { messagesOf, type SessionMessage } from '../../engine/messages.ts'
import { changeSession, createSession, deleteSession, listSessions, viewSession } from '../../engine/sessions.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import { projectOf } from './ask.ts'
import { joi } from './joi.ts'
import { done, json, ProjectPath, refusals, Session, startRefusals } from './schemas.ts'
import { sessionView } from './session-view.ts'

const one = z.object({ success: z.literal(true), session: Session }).openapi('CcsOneSession')
const many = z.object({ success: z.literal(true), sessions: z.array(Session), count: z.int() }).openapi('CcsSessions')
const params = z.object({ id: z.string().max(64) })
const limitOf = (most: number, usual: number) => z.coerce.number().pipe(z.int().min(1).max(most)).default(usual)
const read = { tags: ['ccs'], middleware: [requireScope('sessions:read')] }
const write = { tags: ['ccs'], middleware: [requireScope('sessions:write')] }
const NO_TURNS = { runs: 0, live: 0, messages: 0, costUsd: 0 }

const create = createRoute({
  ...write,
  method: 'post',
  path: '/api/sessions',
  summary: 'Prepare a session',
  request: {
    body: {
      required: true,
      content: json(
        z
          .strictObject({
            project_path: ProjectPath,
            model: z.preprocess((value) => value || undefined, ModelName.optional()),
            metadata: z
              .record(z.string().max(64), z.unknown())
              .refine((metadata) => JSON.stringify(metadata).length <= 16_384, 'must be at most 16 KiB of JSON')
              .optional(),
          })
          .openapi('CcsNewSession'),
      ),
    },
  },
  responses: { 201: { description: 'The session.', content: json(one) }, ...startRefusals },
})
const list = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions',
  summary: 'Sessions, the one used last in front',
  request: {
    query: z.strictObject({ status: z.enum(SESSION_STATUSES).optional(), project_path: z.string().min(1).max(4096).optional(), limit: limitOf(1_000, 100) }),
  },
  responses: { 200: { description: 'The sessions.', content: json(many) }, ...refusals },
})
const search = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions/search',
  summary: 'Sessions that hold a text in their title, directory, metadata or prompts',
  request: { query: z.strictObject({ q: z.string().min(1).max(256), limit: limitOf(100, 20) }) },
  responses: { 200: { description: 'The sessions.', content: json(many) }, ...refusals },
})
const get = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions/{id}',
  summary: 'One session',
  request: { params },
  responses: { 200: { description: 'The session.', content: json(one) }, ...refusals },
})
const Stats = Session.omit({ metadata: true })
const stats = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions/{id}/stats',
  summary: 'What a session has cost',
  request: { params },
  responses: {
    200: { description: 'Its numbers.', content: json(z.object({ success: z.literal(true), stats: Stats }).openapi('CcsSessionStats')) },
    ...refusals,
  },
})
const SaidMessage = z.object({
  id: z.string(),
  session_id: z.string(),
  role: z.enum(['user', 'assistant']),
  content: z.string().nullable(),
  created_at: z.iso.datetime(),
  metadata: z.record(z.string(), z.unknown()),
  status: z.string().optional(),
})
const said = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions/{id}/messages',
  summary: 'What was said in a session, the newest in front',
  request: {
    params,
    query: z.strictObject({
      limit: limitOf(100, 20),
      before_id: z.string().max(64).optional(),
      after_id: z.string().max(64).optional(),
      order: z.enum(['asc', 'desc']).default('desc'),
    }),
  },
  responses: {
    200: {
      description: 'A page.',
      content: json(
        z
          .object({
            success: z.literal(true),
            session_id: z.string(),
            messages: z.array(SaidMessage),
            pagination: z.object({ has_more: z.boolean(), first_id: z.string().nullable(), last_id: z.string().nullable() }),
            count: z.int(),
          })
          .openapi('CcsSessionMessages'),
      ),
    },
    ...refusals,
  },
})
const remove = createRoute({
  ...write,
  method: 'delete',
  path: '/api/sessions/{id}',
  summary: 'Take a session away; a turn of it that is under way is ended',
  request: { params },
  responses: { 200: { description: 'It is gone.', content: json(done) }, ...startRefusals },
})
const setStatus = createRoute({
  ...write,
  method: 'patch',
  path: '/api/sessions/{id}/status',
  summary: 'Put a session aside, or take it up again',
  request: { params, body: { required: true, content: json(z.object({ status: z.unknown().optional().openapi({ type: 'string', enum: [...SESSION_STATUSES] }) }).openapi('CcsSessionStatus')) } },
  responses: { 200: { description: 'The session.', content: json(one) }, ...startRefusals },
})

export const sessionRoutes = newRouter(joi)

sessionRoutes.openapi(create, async (c) => {
  const { project_path, model, metadata } = c.req.valid('json')
  // What holds where nobody says anything is not written down: it may be another one by then, and is not good for every token.
  const row = await createSession(c.get('deps'), c.get('principal'), { cwd: projectOf(project_path), model, metadata })
  return c.json({ success: true as const, session: sessionView({ ...row, ...NO_TURNS }) }, 201)
})
sessionRoutes.openapi(list, async (c) => {
  const { status, project_path: cwd, limit } = c.req.valid('query')
  const page = await listSessions(c.get('deps'), c.get('principal').tenant, { status, cwd, limit })
  return c.json({ success: true as const, sessions: page.sessions.map(sessionView), count: page.sessions.length }, 200)
})
sessionRoutes.openapi(search, async (c) => {
  const { sessions } = await listSessions(c.get('deps'), c.get('principal').tenant, c.req.valid('query'))
  return c.json({ success: true as const, sessions: sessions.map(sessionView), count: sessions.length }, 200)
})
sessionRoutes.openapi(get, async (c) => {
  const row = await viewSession(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id)
  return c.json({ success: true as const, session: sessionView(row) }, 200)
})
sessionRoutes.openapi(stats, async (c) => {
  const row = await viewSession(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id)
  const { metadata: _, ...numbers } = sessionView(row)
  return c.json({ success: true as const, stats: numbers }, 200)
})
sessionRoutes.openapi(said, async (c) => {
  const { id } = c.req.valid('param')
  const { before_id: before, after_id: after, ...query } = c.req.valid('query')
  const page = await messagesOf(c.get('deps'), c.get('principal').tenant, id, { ...query, before, after })
  const messages = page.messages.map((m) => ({
    id: m.id,
    session_id: m.session,
    role: m.role,
    content: m.content,
    created_at: new Date(m.createdAt).toISOString(),
    ...(m.role === 'user' ? { metadata: {} } : answerView(m)),
  }))
  const pagination = { has_more: page.hasMore, first_id: messages[0]?.id ?? null, last_id: messages.at(-1)?.id ?? null }
  return c.json({ success: true as const, session_id: id, messages, pagination, count: messages.length }, 200)
})
sessionRoutes.openapi(remove, async (c) => {
  await deleteSession(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id, { running: 'cancel' })
  return c.json({ success: true as const }, 200)
})
sessionRoutes.openapi(setStatus, async (c) => {
  const deps = c.get('deps')
  const { tenant } = c.get('principal')
  const { id } = c.req.valid('param')
  const status = SESSION_STATUSES.find((known) => known === c.req.valid('json').status)
  if (!status) throw new Fault('invalid_request', 'Invalid status. Must be: active, archived, or closed', { extra: { field: 'status' } })
  await changeSession(deps, tenant, id, { status })
  return c.json({ success: true as const, session: sessionView(await viewSession(deps, tenant, id)) }, 200)
})

function answerView({ model, costUsd: cost_usd, durationMs: duration_ms, error, status }: SessionMessage) {
  const metadata = { model, cost_usd, duration_ms, ...(error ? { error: error.message } : {}) }
  return { metadata, status: status === 'succeeded' ? 'completed' : status }
}
