/** `/api/sessions/{id}/continue` and its streams: the next turn of a session, answered when it is done or as it comes. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { isTerminal } from '../../core/run-state.ts'
import { mustFindMine } from '../../engine/sessions.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { limited } from '../../guard/limits.ts'
import { newRouter } from '../../guard/router.ts'
import type { AppEnv, RunRow } from '../../ports.ts'
import { begin, rowOf } from '../kit/runs.ts'
import { wantedBy } from './ask.ts'
import { joi } from './joi.ts'
import { notYet, NO_STREAM } from './messages.ts'
import { perform } from './outcome.ts'
import { newestRuns, promptsOf, runsEnding } from './queries.ts'
import { Answer, Continue, failed, json, opt, PERMISSION_MODES, Prompt, refusals, startRefusals } from './schemas.ts'
import { endOf, restOfStream, resumedStream, seenBy, streamId, wholeStream } from './stream.ts'
import { lengthSoFar, textSoFar } from './stream-text.ts'

const params = z.object({ id: z.string().max(64) })
const write = { tags: ['ccs'], middleware: [requireScope('runs:write')] }
const read = { tags: ['ccs'], middleware: [requireScope('runs:read')] }
const events = { 'text/event-stream': { schema: z.string() } }
const nothingMore = { 204: { description: 'The run has ended and there is nothing after this id.' } }
const lastEventId = z.object({ 'last-event-id': z.string().max(64).optional() })

const next = createRoute({
  ...write,
  method: 'post',
  path: '/api/sessions/{id}/continue',
  summary: 'The next turn of a session',
  request: { params, body: { required: true, content: json(Continue) } },
  responses: { 200: { description: 'The answer.', content: json(Answer) }, ...startRefusals, ...failed, ...notYet },
})
const text = { schema: { type: 'string' as const } }
const headers = { 'X-Stream-Id': { description: 'For `stream/resume`.', ...text }, 'X-Session-Id': { description: 'The session.', ...text } }
const streamed = { 200: { description: 'Its lines as `message`, then `done` or `error`.', headers, content: events } }
const nextStream = createRoute({
  ...write,
  method: 'post',
  path: '/api/sessions/{id}/continue/stream',
  summary: 'The next turn of a session, as it comes',
  request: { params, body: { required: true, content: json(Continue) } },
  responses: { ...streamed, ...startRefusals, ...failed },
})
const getStream = createRoute({
  ...write,
  method: 'get',
  path: '/api/sessions/{id}/continue/stream',
  summary: 'The same for an EventSource, which can only GET',
  description: 'Coming back with `Last-Event-ID` it continues the turn that it began, and begins none.',
  request: {
    params,
    query: z.strictObject({ prompt: Prompt, system_prompt: opt(z.string().max(65_536)), permission_mode: opt(z.enum(PERMISSION_MODES)) }),
    headers: lastEventId,
  },
  responses: { ...streamed, ...nothingMore, ...startRefusals, ...failed },
})
const status = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions/{id}/stream/status',
  summary: 'Whether a turn of a session is under way',
  request: { params },
  responses: {
    200: {
      description: 'Its stream, if there is one.',
      content: json(
        z
          .object({
            success: z.literal(true),
            has_active_stream: z.boolean(),
            stream: z.object({ stream_id: z.string(), status: z.string(), content_length: z.int(), started_at: z.iso.datetime() }).optional(),
          })
          .openapi('CcsStreamStatus'),
      ),
    },
    ...refusals,
  },
})
const Completed = z
  .object({
    success: z.literal(true),
    status: z.literal('completed'),
    stream_id: z.string(),
    content: z.string(),
    truncated: z.literal(true).optional(),
    metadata: z.object({ cost_usd: z.number().nullable(), duration_ms: z.number().nullable(), success: z.boolean() }),
  })
  .openapi('CcsCompletedStream')
const resume = createRoute({
  ...read,
  method: 'get',
  path: '/api/sessions/{id}/stream/resume',
  summary: 'What a stream that was cut has missed',
  description:
    'While it runs: a first message `{"type":"resumed","content"}` with the text so far, and all that follows. `Last-Event-ID` (or `after`)' +
    ' names the last event that was seen: then nothing is missing. A stream that has ended is JSON, or its missing events where one was named.' +
    ' `truncated`: `content` is the end of a text that is longer than 524,288 characters.',
  request: { params, query: z.strictObject({ stream_id: z.string().max(64).optional(), after: z.string().max(64).optional() }), headers: lastEventId },
  responses: { 200: { description: 'The rest of it, or all of it as JSON.', content: { ...json(Completed), ...events } }, ...nothingMore, ...startRefusals },
})

export const turns = newRouter(joi)

turns.openapi(next, async (c) => {
  const { id } = c.req.valid('param')
  const body = c.req.valid('json')
  if (body.stream) return c.json({ success: false as const, error: NO_STREAM }, 501)
  try {
    const outcome = await perform(c, { ...body, session_id: id }, { onBegun: ({ run }) => c.header('x-run-id', run) })
    return outcome.ok ? c.json(outcome.body, 200) : c.json(outcome.body, 500)
  } catch (error) {
    // In ccs every failure of this route is one of the server.
    const code = error instanceof Fault ? error.code : undefined
    if (code === 'session_not_found') return c.json({ success: false as const, error: `Session not found: ${id}` }, 500)
    if (code === 'session_inactive') return c.json({ success: false as const, error: (error as Fault).message }, 500)
    throw error
  }
})

turns.openapi(nextStream, async (c) => wholeStream(c, await started(c, c.req.valid('param').id, c.req.valid('json'))))

turns.openapi(getStream, async (c) => {
  const { id } = c.req.valid('param')
  const query = c.req.valid('query')
  // HEAD asks what GET would say, and must not do what it does.
  if (c.req.raw.method === 'HEAD') return c.body(null, 200, { 'content-type': 'text/event-stream; charset=utf-8' })
  const seen = seenBy(c, undefined)
  if (seen === undefined) {
    refuseForeignPage(c)
    // It starts something, whatever its method is.
    await limited(c, c.get('principal'), 'write', () => Promise.resolve())
    return wholeStream(c, await started(c, id, query))
  }
  const session = await mustFindMine(c.get('deps'), c.get('principal').tenant, id)
  return restOfStream(c, await itsTurn(c, session.id, query.prompt), seen)
})

turns.openapi(status, async (c) => {
  const deps = c.get('deps')
  const { tenant } = c.get('principal')
  const session = await mustFindMine(deps, tenant, c.req.valid('param').id)
  const live = (await newestRuns(deps.store.db, tenant, session.id, { live: true, limit: 10 })).findLast((row) => row.startedAt !== null)
  const row = live && (await deps.records.latest(live))
  if (!row || isTerminal(row.state)) return c.json({ success: true as const, has_active_stream: false }, 200)
  const content_length = await lengthSoFar(deps, row)
  const started_at = new Date(row.startedAt ?? row.createdAt).toISOString()
  const stream = { stream_id: streamId(row.id), status: 'running', content_length, started_at }
  return c.json({ success: true as const, has_active_stream: true, stream }, 200)
})

turns.openapi(resume, async (c) => {
  const deps = c.get('deps')
  const { id } = c.req.valid('param')
  const { stream_id: name, after: asked } = c.req.valid('query')
  const session = await mustFindMine(deps, c.get('principal').tenant, id)
  if (!name) throw new Fault('invalid_request', 'stream_id is required', { extra: { field: 'stream_id' } })
  const row = await itsStream(c, session.id, name)
  const after = seenBy(c, asked)
  if (!isTerminal(row.state) || after !== undefined) return resumedStream(c, row, after)
  const { content } = await textSoFar(deps, row, row.lastSeq)
  const metadata = { cost_usd: row.costUsd, duration_ms: row.durationMs, success: row.state === 'succeeded' }
  return c.json({ success: true as const, status: 'completed' as const, stream_id: name, ...content, metadata }, 200)
})

/** A picture or a link on a page of somebody else sends credentials that a browser keeps, and no `Origin`, to what is a GET. */
function refuseForeignPage(c: Context<AppEnv>): void {
  const site = c.req.header('sec-fetch-site')
  const isForeign = site === 'cross-site' || site === 'same-site'
  // Where there is one it is that of a page which may ask.
  if (isForeign && c.req.header('origin') === undefined) throw new Fault('origin', 'a page of another site cannot begin a turn')
}

async function started(c: Context<AppEnv>, id: string, body: Continue): Promise<RunRow> {
  try {
    const wish = await wantedBy(c, { ...body, session_id: id }, { partial: true })
    return await rowOf(c, await begin(c, wish))
  } catch (error) {
    if (error instanceof Fault && error.code === 'session_inactive') throw new Fault('invalid_request', error.message)
    throw error
  }
}

/** The newest turn of a session in which this was asked: the one that a client means who comes back. */
async function itsTurn(c: Context<AppEnv>, session: string, prompt: string): Promise<RunRow> {
  const { db } = c.get('deps').store
  const rows = await newestRuns(db, c.get('principal').tenant, session, { live: false, limit: 20 })
  const asked = await promptsOf(db, rows)
  return kept(c, rows.find(({ id }) => asked.get(id) === prompt))
}

async function itsStream(c: Context<AppEnv>, session: string, name: string): Promise<RunRow> {
  const { db } = c.get('deps').store
  const { tenant } = c.get('principal')
  const end = endOf(name)
  if (end === undefined) return kept(c, undefined)
  const its = await runsEnding(db, tenant, end, session)
  if (its.length === 0 && (await runsEnding(db, tenant, end)).length > 0) throw new Fault('invalid_request', 'Stream does not belong to this session')
  // Of two nobody knows which one is meant.
  return kept(c, its.length === 1 ? its[0] : undefined)
}

/** As it is now, with its events. */
async function kept(c: Context<AppEnv>, row: RunRow | undefined): Promise<RunRow> {
  const latest = row && (await c.get('deps').records.latest(row))
  if (!latest || latest.prunedAt !== null) throw new Fault('not_found', 'Stream not found')
  return latest
}
