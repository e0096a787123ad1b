/** `/v1/runs`: start one, look at it, list them, end it. Its events are in run-events.ts. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { RunId } from '../../shared/ids.ts'
import { isTerminal, publicStatus } from '../core/run-state.ts'
import { runSummary, runView } from '../engine/run-view.ts'
import { cancelRun } from '../engine/cancel.ts'
import { claimOf } from '../engine/claim.ts'
import { findMine } from '../engine/sessions.ts'
import { streamTo, untilEnded } from '../engine/stream.ts'
import { submit } from '../engine/submit.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { whileWelcome } from '../guard/watch.ts'
import type { AppEnv, Deps, RunRef, RunRow, ShownRun } from '../ports.ts'
import { listRuns } from '../store/run-pages.ts'
import { ListQuery, notFound, problem, problems, Run, RunPage, RunRequest, RunSummary } from './run-schemas.ts'
import { wishOf } from './run-wish.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })

const start = createRoute({
  method: 'post',
  path: '/v1/runs',
  tags: ['runs'],
  summary: 'Start a run',
  description:
    'With `Accept: text/event-stream` the answer is the stream of its events; with `Prefer: respond-async` it is 202 as soon as a runner has accepted, or at once when the run has to wait; otherwise it is the finished run.',
  middleware: [requireScope('runs:write')] as const,
  request: { body: { required: true, content: json(RunRequest) } },
  responses: {
    200: { description: 'The finished run, or its events.', content: { ...json(Run), 'text/event-stream': { schema: z.string() } } },
    202: { description: 'Started; `Location` leads to it.', content: json(RunSummary) },
    ...problems,
    ...notFound,
    402: problem('A budget has no room for it; the answer has the numbers.'),
    409: problem('The session has a turn in progress, or takes no more runs.'),
    410: problem('The run of this Idempotency-Key is over, and its events are no longer kept.'),
    422: problem('The Idempotency-Key was used for another body.'),
    429: problem('No slot came free in time, or there are too many requests or runs at once.'),
    502: problem('The CLI could not be started, or no provider of the run is there.'),
    503: problem('No runner can take it.'),
    504: problem('The runner did not answer in time.'),
  },
})

const get = createRoute({
  method: 'get',
  path: '/v1/runs/{id}',
  tags: ['runs'],
  summary: 'One run, with its result',
  middleware: [requireScope('runs:read')] as const,
  request: { params },
  responses: { 200: { description: 'The run.', content: json(Run) }, ...problems, ...notFound },
})

const list = createRoute({
  method: 'get',
  path: '/v1/runs',
  tags: ['runs'],
  summary: 'Runs, newest first',
  middleware: [requireScope('runs:read')] as const,
  request: { query: ListQuery },
  responses: { 200: { description: 'A page.', content: json(RunPage) }, ...problems },
})

const cancel = createRoute({
  method: 'post',
  path: '/v1/runs/{id}/cancel',
  tags: ['runs'],
  summary: 'End a run',
  description: 'Idempotent. The run is `cancelled` once the runner has confirmed that nothing of it is left.',
  middleware: [requireScope('runs:write')] as const,
  request: { params },
  responses: {
    200: { description: 'It had ended already.', content: json(RunSummary) },
    202: { description: 'It is being ended.', content: json(RunSummary) },
    ...problems,
    ...notFound,
  },
})

export const runs = newRouter()

runs.openapi(start, async (c) => {
  const deps = c.get('deps')
  const who = c.get('principal')
  const body = c.req.valid('json')
  const async = /\brespond-async\b/i.test(c.req.header('prefer') ?? '')
  const wish = wishOf(deps, who, body, async)
  const welcome = <T>(work: (signal: AbortSignal) => Promise<T>) => whileWelcome(c.get('recheck'), c.req.raw.signal, work)
  const options = { newSessionId: crypto.randomUUID(), claim: await claimOf(c.req.header('idempotency-key'), body), until: async ? 'placed' : 'accepted' } as const
  const ref = await welcome((signal) => submit(deps, who, wish, { ...options, signal }))
  // From here on a second attempt could start a second run.
  c.header('x-should-retry', 'false')
  if (!async && wantsStream(c.req.header('accept'))) {
    // An old key may lead to a run whose events are gone.
    const row = await mustFind(c, ref)
    mustBeKept(row)
    return streamTo(c, row, 0)
  }
  c.header('x-run-id', ref.run)
  if (async) {
    c.header('location', `/v1/runs/${ref.run}`)
    c.header('preference-applied', 'respond-async')
    const row = await mustFind(c, ref)
    return c.json(runSummary(row, await positionOf(deps, row)), 202)
  }
  await welcome((signal) => untilEnded(deps, ref, signal))
  const shown = await mustShow(c, ref)
  if (!isTerminal(shown.row.state)) {
    c.header('location', `/v1/runs/${ref.run}`)
    throw new Fault('draining', `the router is stopping; run ${ref.run} goes on and can be asked for again`, { retryAfterS: 2 })
  }
  return c.json(runView(shown), 200)
})

runs.openapi(get, async (c) => {
  const deps = c.get('deps')
  const shown = await mustShow(c, refOf(c, c.req.valid('param').id))
  return c.json(runView(shown, await positionOf(deps, shown.row)), 200)
})

runs.openapi(list, async (c) => {
  const { status, session_id, before, limit } = c.req.valid('query')
  const { tenant } = c.get('principal')
  // Also by the CLI's own name for it. One that is deleted still has its runs.
  const session = session_id && ((await findMine(c.get('deps'), tenant, session_id))?.id ?? session_id)
  const rows = await listRuns(c.get('deps').store.db, tenant, { status, session, before, limit: limit + 1 })
  const page = rows.slice(0, limit)
  return c.json({ data: page.map((row) => runSummary(row)), next: rows.length > limit ? (page.at(-1)?.id ?? null) : null }, 200)
})

runs.openapi(cancel, async (c) => {
  const deps = c.get('deps')
  const ref = refOf(c, c.req.valid('param').id)
  await cancelRun(deps, ref)
  const row = await mustFind(c, ref)
  return c.json(runSummary(row), isTerminal(row.state) ? 200 : 202)
})

function wantsStream(accept = ''): boolean {
  return accept
    .toLowerCase()
    .split(',')
    .some((range) => /^\s*text\/event-stream\s*(;|$)/.test(range) && !/;\s*q=0(\.0*)?\s*(;|$)/.test(range))
}

/** Its place in the line, for a run that waits. */
async function positionOf({ line }: Deps, row: ShownRun['row']): Promise<number | undefined> {
  return publicStatus(row.state) === 'queued' ? line.position(row) : undefined
}

/** A foreign, forged or malformed id is the same 404. */
export function refOf(c: Context<AppEnv>, id: string): RunRef {
  if (!RunId.safeParse(id).success) throw new Fault('run_not_found', `no run ${id.slice(0, 64)}`)
  return { run: id, tenant: c.get('principal').tenant }
}

/** The events of a run go as a whole, and its row stays. */
export function mustBeKept(row: RunRow): void {
  if (row.prunedAt !== null) throw new Fault('pruned', `the events of ${row.id} are no longer kept`, { extra: { oldest: null } })
}

async function mustShow(c: Context<AppEnv>, ref: RunRef): Promise<ShownRun> {
  const shown = await c.get('deps').records.show(ref)
  if (!shown) throw notThere(ref)
  return shown
}

export async function mustFind(c: Context<AppEnv>, ref: RunRef): Promise<RunRow> {
  const row = await c.get('deps').records.find(ref)
  if (!row) throw notThere(ref)
  return row
}

const notThere = ({ run }: RunRef) => new Fault('run_not_found', `no run ${run}`)
