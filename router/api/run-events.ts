/** `/v1/runs/:id/events`: the events of a live or finished run from any point on, as many times as you like. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { isTerminal } from '../core/run-state.ts'
import { streamTo } from '../engine/stream.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { notFound, problem, problems } from './run-schemas.ts'
import { mustBeKept, mustFind, refOf } from './runs.ts'

const route = createRoute({
  method: 'get',
  path: '/v1/runs/{id}/events',
  tags: ['runs'],
  summary: 'The events of a run',
  description: '`Last-Event-ID` (or `?after=`) continues after that id: the bytes are those of the first stream.',
  middleware: [requireScope('runs:read')] as const,
  request: {
    params: z.object({ id: z.string().max(64) }),
    query: z.object({ after: z.string().max(64).optional() }).strict(),
    headers: z.object({ 'last-event-id': z.string().max(64).optional() }),
  },
  responses: {
    200: { description: 'The stream.', content: { 'text/event-stream': { schema: z.string() } } },
    204: { description: 'The run has ended and there is nothing after this id.' },
    410: problem('The events are no longer kept; `oldest` is the first that is, null when there is none.'),
    ...problems,
    ...notFound,
  },
})

export const runEvents = newRouter()

runEvents.openapi(route, async (c) => {
  const deps = c.get('deps')
  const ref = refOf(c, c.req.valid('param').id)
  // A reconnecting EventSource repeats its URL and adds the header, so the header is the newer word.
  const given = c.req.valid('header')['last-event-id'] ?? c.req.valid('query').after ?? '0'
  if (!/^\d{1,15}$/.test(given)) throw new Fault('event_id', `${JSON.stringify(given)} is not an event id`)
  const after = Number(given)
  const row = await mustFind(c, ref)
  mustBeKept(row)
  const last = isTerminal(row.state) ? row.lastSeq : await deps.records.lastSeq(row)
  if (after > last) throw new Fault('event_id', `event ${after} has not happened; the newest is ${last}`, { extra: { newest: last } })
  if (isTerminal(row.state) && after === last) return c.body(null, 204)
  // The body of an answer to HEAD is dropped unread, and a stream that nobody reads or cancels would stay.
  if (c.req.raw.method === 'HEAD') return c.body(null, 200, { 'content-type': 'text/event-stream; charset=utf-8' })
  return streamTo(c, row, after)
})
