/** `GET /processes` and `GET /` of claudecode2api. Its processes are the runs of the tenant that are under way, in whatever dialect. */
import { createRoute } from '@hono/zod-openapi'
import { problems } from '../../api/run-schemas.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { limitedByAddress } from '../../guard/limits.ts'
import { newRouter } from '../../guard/router.ts'
import { listRuns, type ListedRun } from '../../store/run-pages.ts'
import { processOf } from './process-id.ts'
import { Gateway, Processes, refusals } from './schemas.ts'

/** More than these are not listed; the newest are. */
const MAX_PROCESSES = 1_000

const list = createRoute({
  method: 'get',
  path: '/processes',
  tags: ['claudecode2api'],
  operationId: 'claudecode2apiProcesses',
  summary: 'The runs that are under way (claudecode2api)',
  middleware: [requireScope('runs:read')] as const,
  responses: { 200: { description: 'The oldest first.', content: { 'application/json': { schema: Processes } } }, ...refusals(400, 401, 403, 429, 500, 503) },
})

// `/` is nobody's own, so a no is said there in our own words.
const { 400: invalid, 403: forbidden, 429: tooMany } = problems
const refused = { 400: invalid, 403: forbidden, 429: tooMany }

const root = createRoute({
  method: 'get',
  path: '/',
  tags: ['claudecode2api'],
  operationId: 'claudecode2apiRoot',
  summary: 'What this is (claudecode2api)',
  security: [],
  middleware: [limitedByAddress] as const,
  responses: { 200: { description: 'Where to look.', content: { 'application/json': { schema: Gateway } } }, ...refused },
})

export const processes = newRouter()

processes.openapi(list, async (c) => {
  const { store } = c.get('deps')
  const rows = await listRuns(store.db, c.get('principal').tenant, { status: 'running', session: undefined, before: undefined, limit: MAX_PROCESSES })
  return c.json({ processes: rows.toReversed().map(processView), count: rows.length }, 200)
})

processes.openapi(root, (c) => c.json({ message: 'Claude Code API Gateway', docs: '/docs', health: '/health' }, 200))

function processView(row: ListedRun) {
  return {
    process_id: processOf(row.id),
    cwd: row.cwd ?? '',
    model: row.model,
    // Python's isoformat of a time without a zone.
    started_at: new Date(row.startedAt ?? row.createdAt).toISOString().replace('Z', '000'),
    session_id: row.session,
  }
}
