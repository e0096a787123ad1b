/** `/v1/processes`: what is at work now. */
import { createRoute, z } from '@hono/zod-openapi'
import { RunId, SessionId } from '../../shared/ids.ts'
import { processesOf } from '../engine/processes.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { problems } from './run-schemas.ts'
import { iso } from './usage-schemas.ts'

const Process = z
  .object({
    run_id: RunId,
    session_id: SessionId,
    runner_id: z.string().nullable(),
    cwd: z.string().nullable().openapi({ description: 'The real directory that it works in.' }),
    model: z.string().nullable(),
    provider: z.string().nullable(),
    origin: z.string().openapi({ description: 'The dialect that it was asked for in.' }),
    started_at: z.iso.datetime().nullable(),
  })
  .openapi('Process')

const list = createRoute({
  method: 'get',
  path: '/v1/processes',
  tags: ['runs'],
  summary: 'Runs that hold a slot now, the oldest first',
  middleware: [requireScope('runs:read')] as const,
  responses: { 200: { description: 'All of them, up to a thousand.', content: { 'application/json': { schema: z.object({ data: z.array(Process) }) } } }, ...problems },
})

export const processes = newRouter()

processes.openapi(list, async (c) => {
  const all = await processesOf(c.get('deps'), c.get('principal').tenant)
  const data = all.map(({ run, session, runner, cwd, model, provider, origin, startedAt }) => ({
    run_id: run,
    session_id: session,
    runner_id: runner,
    cwd,
    model,
    provider,
    origin,
    started_at: iso(startedAt),
  }))
  return c.json({ data }, 200)
})
