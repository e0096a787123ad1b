/** `PATCH /v1/runs/{id}`: another place in the line for a run that waits. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { reprioritise } from '../engine/priority.ts'
import { runSummary } from '../engine/run-view.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { notFound, Problem, problems, RunFields, RunSummary } from './run-schemas.ts'
import { mustFind, refOf } from './runs.ts'

const change = createRoute({
  method: 'patch',
  path: '/v1/runs/{id}',
  tags: ['runs'],
  summary: 'Change the priority of a run that waits',
  middleware: [requireScope('runs:write')] as const,
  request: {
    params: z.object({ id: z.string().max(64) }),
    body: { required: true, content: { 'application/json': { schema: z.strictObject({ priority: RunFields.shape.priority.unwrap() }).openapi('RunChange') } } },
  },
  responses: {
    200: { description: 'It stands where it belongs by now.', content: { 'application/json': { schema: RunSummary } } },
    ...problems,
    ...notFound,
    409: { description: 'It waits no more: `run_status` says what it does.', content: { 'application/problem+json': { schema: Problem } } },
  },
})

export const runPriority = newRouter()

runPriority.openapi(change, async (c) => {
  const deps = c.get('deps')
  const ref = refOf(c, c.req.valid('param').id)
  const changed = await reprioritise(deps, ref, c.req.valid('json').priority)
  const row = await mustFind(c, ref)
  const view = runSummary(row)
  if (changed === 'running' || changed === 'ended') {
    throw new Fault('conflict', `run ${row.id} is ${view.status} and waits no more`, { extra: { run_status: view.status } })
  }
  return c.json(runSummary(row, await deps.line.position(row)), 200)
})
