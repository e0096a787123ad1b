/** `/v1/runs/:id/deliveries`: who was told of a run by webhook, and what became of it. */
import { createRoute, z } from '@hono/zod-openapi'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { listDeliveries } from '../store/deliveries.ts'
import { MAX_WEBHOOKS } from '../webhooks/make.ts'
import { Delivery, deliveryForApp } from './delivery-schemas.ts'
import { notFound, problems } from './run-schemas.ts'
import { mustFind, refOf } from './runs.ts'

/** A start and an end of a run, to each webhook that there can be, and to the address that the request named. */
const MOST = 2 * (MAX_WEBHOOKS + 1)

const route = createRoute({
  method: 'get',
  path: '/v1/runs/{id}/deliveries',
  tags: ['runs'],
  summary: 'Who was told of a run by webhook',
  description: 'Newest first. A run that has just ended may not be there yet.',
  middleware: [requireScope('runs:read')] as const,
  request: { params: z.object({ id: z.string().max(64) }) },
  responses: {
    200: { description: 'The messages.', content: { 'application/json': { schema: z.object({ data: z.array(Delivery) }) } } },
    ...problems,
    ...notFound,
  },
})

export const runDeliveries = newRouter()

runDeliveries.openapi(route, async (c) => {
  const { id, tenant } = await mustFind(c, refOf(c, c.req.valid('param').id))
  const rows = await listDeliveries(c.get('deps').store.db, tenant, { run: id, limit: MOST })
  return c.json({ data: rows.map(deliveryForApp) }, 200)
})
