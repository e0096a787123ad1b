/**
 * `/admin/v1/webhook-deliveries`: what was sent, and what became of it; and `/admin/v1/webhook-settings`, which hold for the
 * whole router.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { RunId, TenantId } from '../../shared/ids.ts'
import { Delivery, DeliveryId, DeliveryState, deliveryView, DeliveryWithBody } from '../api/delivery-schemas.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { mustOperate, OPERATOR_TENANT, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv } from '../ports.ts'
import { findDelivery, listDeliveries, redelivery, type DeliveryRow } from '../store/deliveries.ts'
import { REQUEST } from '../store/webhooks.ts'
import { readWebhookSettings, WebhookSettings, webhookSettingsChange } from '../webhooks/settings.ts'
import { auditOf, authorOf, commit } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const query = z.strictObject({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) })
const shared = { tags: ['webhooks'], middleware: [requireAdmin()] }
const PATH = '/admin/v1/webhook-deliveries'

const list = createRoute({
  ...shared,
  method: 'get',
  path: PATH,
  summary: 'Messages to webhooks, newest first',
  description: 'Settled ones are kept for 30 days, the bodies of those that were delivered for 3.',
  request: {
    query: TenantPageQuery.extend({
      webhook: z.string().min(1).max(64).optional().openapi({ description: '`request`: those to addresses that single requests named.' }),
      run: RunId.optional(),
      state: DeliveryState.optional(),
    }),
  },
  responses: { 200: { description: 'A page.', content: json(pageOf(Delivery)) }, ...problems },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: `${PATH}/{id}`,
  summary: 'One message, with its body',
  request: { params, query },
  responses: { 200: { description: 'The message.', content: json(DeliveryWithBody) }, ...problems, ...notFound },
})
const again = createRoute({
  ...shared,
  method: 'post',
  path: `${PATH}/{id}/redeliver`,
  summary: 'Send a message now',
  description:
    'The same message under the same `webhook-id`. A settled one is tried anew, for a day if need be; one that waits is tried ahead of ' +
    'its time. What was taken can be sent again for 3 days, and nothing of a session that was deleted.',
  request: { params, query },
  responses: {
    202: { description: 'It is on its way.', content: json(Delivery) },
    409: { description: 'Its body is not kept any more.' },
    ...problems,
    ...notFound,
  },
})
const ofRouter = json(WebhookSettings)
const getSettings = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/webhook-settings',
  summary: 'How webhooks are sent',
  description: 'For operators.',
  responses: { 200: { description: 'The settings.', content: ofRouter }, ...problems },
})
const putSettings = createRoute({
  ...shared,
  method: 'put',
  path: '/admin/v1/webhook-settings',
  summary: 'Set how webhooks are sent, in place of what was set before',
  description: 'For operators.',
  request: { body: { required: true, content: ofRouter } },
  responses: { 200: { description: 'The settings.', content: ofRouter }, ...problems },
})

export const webhookDeliveries = newRouter()

webhookDeliveries.openapi(list, async (c) => {
  const { tenant, webhook, run, state, after, limit } = c.req.valid('query')
  const filter = { webhook: webhook === REQUEST ? null : webhook, run, state, after, limit: limit + 1 }
  const rows = await listDeliveries(c.get('deps').store.db, tenantOf(c, tenant), filter)
  return c.json(page(rows, limit, (row) => row.id, deliveryView), 200)
})

webhookDeliveries.openapi(get, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  return c.json({ ...deliveryView(row), body: row.body }, 200)
})

webhookDeliveries.openapi(again, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  if (row.body === null) throw new Fault('conflict', `the body of ${row.id} is not kept any more: ${whyNot(row)}`)
  const change = { tenant: row.tenant, action: 'webhook.redeliver', target: `delivery/${row.id}` }
  await deps.store.batch([redelivery(deps.store.db, row, deps.platform.now()), auditOf(deps, authorOf(c), change)])
  deps.outbox?.nudge(row.tenant)
  return c.json(deliveryView((await findDelivery(deps.store.db, row.tenant, row.id)) ?? row), 202)
})

webhookDeliveries.openapi(getSettings, async (c) => {
  mustOperate(c)
  return c.json(await readWebhookSettings(c.get('deps').store.db), 200)
})

webhookDeliveries.openapi(putSettings, async (c) => {
  mustOperate(c)
  const deps = c.get('deps')
  const { db } = deps.store
  const [before, after] = [await readWebhookSettings(db), c.req.valid('json')]
  const change = { tenant: OPERATOR_TENANT, action: 'webhook-settings.update', target: 'router', before, after }
  await commit(deps, authorOf(c), [webhookSettingsChange(db, after, deps.platform.now())], change)
  return c.json(after, 200)
})

const whyNot = ({ state }: DeliveryRow) =>
  state === 'delivered' ? 'it was delivered more than 3 days ago, or its session was deleted' : 'its session was deleted'

async function mustFind(c: Context<AppEnv>, id: string, wished: string | undefined): Promise<DeliveryRow> {
  const tenant = tenantOf(c, wished)
  const row = DeliveryId.safeParse(id).success ? await findDelivery(c.get('deps').store.db, tenant, id) : undefined
  if (!row) throw new Fault('not_found', `no delivery ${id}`)
  return row
}
