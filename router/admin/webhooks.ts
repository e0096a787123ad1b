/** `/admin/v1/webhooks`: where a tenant wants to hear of its runs and sessions. A secret is shown once, when it is made. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { Delivery, deliveryView } from '../api/delivery-schemas.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv } from '../ports.ts'
import { deliveryIdAt, findDelivery, insertDelivery } from '../store/deliveries.ts'
import { readTenant } from '../store/tenants.ts'
import {
  findWebhook,
  haveWebhook,
  insertWebhook,
  listWebhooks,
  REQUEST,
  webhookChange,
  webhookDeletion,
  type WebhookRow,
} from '../store/webhooks.ts'
import { checkedAddress } from '../webhooks/address.ts'
import { requestRow } from '../webhooks/attempt.ts'
import { TEST_EVENT, testBody } from '../webhooks/body.ts'
import { MAX_WEBHOOKS } from '../webhooks/make.ts'
import { newSecret, sealSecret } from '../webhooks/secret.ts'
import { authorOf, commit } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'
import { CreatedWebhook, NewSecret, NewWebhook, Webhook, WebhookPatch, webhookView } from './webhook-schemas.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const query = z.strictObject({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) })
const shared = { tags: ['webhooks'], middleware: [requireAdmin()] }
const PATH = '/admin/v1/webhooks'

const list = createRoute({
  ...shared,
  method: 'get',
  path: PATH,
  summary: 'Webhooks, by id; disabled ones too',
  request: { query: TenantPageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(Webhook)) }, ...problems },
})
const create = createRoute({
  ...shared,
  method: 'post',
  path: PATH,
  summary: 'Add a webhook',
  description: 'Messages are signed as Standard Webhooks, with the secret that is in this answer and in no other.',
  request: { body: { required: true, content: json(NewWebhook) } },
  responses: {
    201: { description: 'The webhook, with its secret.', content: json(CreatedWebhook) },
    409: { description: `There are ${MAX_WEBHOOKS} already.` },
    ...problems,
    ...notFound,
  },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: `${PATH}/{id}`,
  summary: 'One webhook',
  request: { params, query },
  responses: { 200: { description: 'The webhook.', content: json(Webhook) }, ...problems, ...notFound },
})
const patch = createRoute({
  ...shared,
  method: 'patch',
  path: `${PATH}/{id}`,
  summary: 'Change a webhook',
  description: 'A new address is that of messages which wait, too. Messages of a disabled one are failed when their time comes.',
  request: { params, query, body: { required: true, content: json(WebhookPatch) } },
  responses: { 200: { description: 'The webhook.', content: json(Webhook) }, ...problems, ...notFound },
})
const remove = createRoute({
  ...shared,
  method: 'delete',
  path: `${PATH}/{id}`,
  summary: 'Remove a webhook; what waits for it is failed',
  request: { params, query },
  responses: { 204: { description: 'It is gone.' }, ...problems, ...notFound },
})
const renew = createRoute({
  ...shared,
  method: 'post',
  path: `${PATH}/{id}/secret`,
  summary: 'Sign with a new secret',
  description:
    'The one before signs along for a day; twice in a row and it is out of use at once. The id `request` is the secret of messages ' +
    'to addresses that single requests name: this is the way to have it.',
  request: { params, query },
  responses: { 200: { description: 'The new secret.', content: json(NewSecret) }, ...problems, ...notFound },
})
const test = createRoute({
  ...shared,
  method: 'post',
  path: `${PATH}/{id}/test`,
  summary: 'Send a message of the event `webhook.test`, disabled or not',
  request: { params, query },
  responses: {
    202: { description: 'It is on its way; ask for the delivery to see what becomes of it.', content: json(Delivery) },
    ...problems,
    ...notFound,
  },
})

export const webhooks = newRouter()

webhooks.openapi(list, async (c) => {
  const { tenant, after, limit } = c.req.valid('query')
  const rows = await listWebhooks(c.get('deps').store.db, tenantOf(c, tenant), after, limit + 1)
  return c.json(page(rows, limit, (row) => row.id, webhookView), 200)
})

webhooks.openapi(create, async (c) => {
  const deps = c.get('deps')
  const { db } = deps.store
  const { tenant: wished, url, ...parts } = c.req.valid('json')
  const tenant = tenantOf(c, wished)
  // A slip of the pen must not make a tenant that hears of nothing.
  if (wished !== undefined && wished !== c.get('principal').tenant && !(await readTenant(db, tenant))) {
    throw new Fault('not_found', `no tenant ${tenant}`, { extra: { field: 'tenant' } })
  }
  const address = await checkedAddress(db, url, 'url')
  const now = deps.platform.now()
  const id = `whk_${deps.platform.id()}`
  const secret = newSecret()
  const sealed = await sealSecret(deps.vault, { tenant, id }, secret)
  const row: WebhookRow = { tenant, id, url: address, ...parts, ...sealed, createdAt: now, updatedAt: now }
  const view = webhookView(row)
  const what = { tenant, action: 'webhook.create', target: `webhook/${id}`, after: view }
  try {
    await commit(deps, authorOf(c), [insertWebhook(db, row, MAX_WEBHOOKS)], what)
  } catch (error) {
    // Its id is new, so nothing else can be in its way.
    const isFull = error instanceof Fault && error.code === 'conflict'
    throw isFull ? new Fault('conflict', `there are ${MAX_WEBHOOKS} webhooks already, which is the most`) : error
  }
  return c.json({ ...view, secret }, 201)
})

webhooks.openapi(get, async (c) => c.json(webhookView(await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)), 200))

webhooks.openapi(patch, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  const { url, ...parts } = c.req.valid('json')
  const change = { ...parts, ...(url === undefined ? {} : { url: await checkedAddress(deps.store.db, url, 'url') }) }
  const now = deps.platform.now()
  const [before, after] = [webhookView(row), webhookView({ ...row, ...change, updatedAt: now })]
  const what = { tenant: row.tenant, action: 'webhook.update', target: `webhook/${row.id}`, before, after }
  await commit(deps, authorOf(c), webhookChange(deps.store.db, row, change, now), what)
  return c.json(after, 200)
})

webhooks.openapi(remove, async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  const what = { tenant: row.tenant, action: 'webhook.delete', target: `webhook/${row.id}`, before: webhookView(row) }
  await commit(deps, authorOf(c), webhookDeletion(deps.store.db, row), what)
  return c.body(null, 204)
})

webhooks.openapi(renew, async (c) => {
  const deps = c.get('deps')
  const { db } = deps.store
  const { id } = c.req.valid('param')
  const now = deps.platform.now()
  const secret = newSecret()
  const tenant = tenantOf(c, c.req.valid('query').tenant)
  if (id === REQUEST) await haveWebhook(db, await requestRow(deps.vault, tenant, newSecret(), now))
  const row = id === REQUEST ? await findWebhook(db, tenant, REQUEST) : await mustFind(c, id, tenant)
  if (!row) throw new Fault('not_found', `no webhook ${id}`)
  const sealed = await sealSecret(deps.vault, row, secret, row, now)
  const what = { tenant, action: 'webhook.secret', target: `webhook/${id}` }
  await commit(deps, authorOf(c), webhookChange(db, row, sealed, now), what)
  return c.json({ id, secret }, 200)
})

webhooks.openapi(test, async (c) => {
  const deps = c.get('deps')
  const { db } = deps.store
  const { tenant, id, url, format } = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  const now = deps.platform.now()
  // Made by chance and not by what happened: each test is another message.
  const message = `${deliveryIdAt(now)}${deps.platform.id().slice(-20)}`
  const about = { tenant, webhook: id, event: TEST_EVENT, run: null, session: null, createdAt: now }
  const made = { ...about, id: message, url: url ?? '', format, body: testBody(id, format, now) }
  await deps.store.batch([insertDelivery(db, made)])
  deps.outbox?.nudge(tenant)
  const row = await findDelivery(db, tenant, message)
  if (!row) throw new Fault('conflict', `webhook ${id} was changed meanwhile`)
  return c.json(deliveryView(row), 202)
})

/** The one of single requests is not among those that somebody made. */
async function mustFind(c: Context<AppEnv>, id: string, wished: string | undefined): Promise<WebhookRow> {
  const tenant = tenantOf(c, wished)
  const row = /^whk_[0-9a-f]{32}$/.test(id) ? await findWebhook(c.get('deps').store.db, tenant, id) : undefined
  if (!row) throw new Fault('not_found', `no webhook ${id}`)
  return row
}
