/**
 * `/admin/v1/limits` and `/admin/v1/routing`: what a tenant may use, and how its providers are chosen.
 *
 * A limit that the limited could lift is none, so limits are set by operators. Routing is the tenant's own business.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { Routing, routingOf, TenantLimits } from '../../shared/tenant-settings.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { mustOperate, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { currentUsage } from '../limits/usage.ts'
import type { AppEnv, Deps } from '../ports.ts'
import { readTenant } from '../store/tenants.ts'
import { changeSettings } from './apply-settings.ts'
import { authorOf } from './change.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const query = z.strictObject({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) })
const admin = { middleware: [requireAdmin()] }

const Spent = z.object({
  spent_usd: z.number(),
  reserved_usd: z.number().openapi({ description: 'Held by runs that have not ended.' }),
})
export const TenantUsage = z
  .object({ total: Spent.optional(), day: Spent.optional(), runs: z.int().optional() })
  .openapi({ description: 'Of the whole tenant, once it was limited: for ever, on this day of UTC, and runs that wait or run.' })
const Limits = z.object({ tenant: TenantId, limits: TenantLimits, usage: TenantUsage }).openapi('TenantLimits')
const TenantRouting = z
  .object({
    tenant: TenantId,
    routing: Routing.describe('What holds, with the defaults.'),
    set: Routing.partial().describe('What of it was set.'),
  })
  .openapi('Routing')

const limitsAnswer = { 200: { description: 'The limits; what is not there is not limited.', content: json(Limits) }, ...problems }
const getLimits = createRoute({
  ...admin,
  method: 'get',
  path: '/admin/v1/limits',
  tags: ['limits'],
  summary: 'The limits of a tenant, and what of them is used',
  request: { query },
  responses: limitsAnswer,
})
const putLimits = createRoute({
  ...admin,
  method: 'put',
  path: '/admin/v1/limits',
  tags: ['limits'],
  summary: 'Set the limits of a tenant, in place of those before',
  description: 'For operators. Takes effect at once here, and within two seconds on other replicas.',
  request: { query, body: { required: true, content: json(TenantLimits) } },
  responses: { ...limitsAnswer, ...notFound },
})

const routingAnswer = { 200: { description: 'How providers are chosen.', content: json(TenantRouting) }, ...problems }
const getRouting = createRoute({
  ...admin,
  method: 'get',
  path: '/admin/v1/routing',
  tags: ['providers'],
  summary: 'How a provider is chosen, and when it is passed by',
  request: { query },
  responses: routingAnswer,
})
const putRouting = createRoute({
  ...admin,
  method: 'put',
  path: '/admin/v1/routing',
  tags: ['providers'],
  summary: 'Set how a provider is chosen, in place of what was set before',
  request: { query, body: { required: true, content: json(Routing.partial()) } },
  responses: { ...routingAnswer, ...notFound },
})

export const limits = newRouter()

limits.openapi(getLimits, async (c) => c.json(await limitsOf(c.get('deps'), tenantOf(c, c.req.valid('query').tenant)), 200))

limits.openapi(putLimits, async (c) => {
  mustOperate(c)
  const tenant = await knownTenant(c, c.req.valid('query').tenant)
  await changeSettings(c.get('deps'), authorOf(c), tenant, 'limits', c.req.valid('json'))
  return c.json(await limitsOf(c.get('deps'), tenant), 200)
})

limits.openapi(getRouting, async (c) => c.json(await routingView(c.get('deps'), tenantOf(c, c.req.valid('query').tenant)), 200))

limits.openapi(putRouting, async (c) => {
  const tenant = await knownTenant(c, c.req.valid('query').tenant)
  await changeSettings(c.get('deps'), authorOf(c), tenant, 'routing', c.req.valid('json'))
  return c.json(await routingView(c.get('deps'), tenant), 200)
})

/** A slip of the pen must not make a tenant. Throws `not_found` for one that is named and not there. */
async function knownTenant(c: Context<AppEnv>, wished: string | undefined): Promise<string> {
  const tenant = tenantOf(c, wished)
  if (tenant !== c.get('principal').tenant && !(await readTenant(c.get('deps').store.db, tenant)))
    throw new Fault('not_found', `no tenant ${tenant}`, { extra: { field: 'tenant' } })
  return tenant
}

async function limitsOf({ store, platform }: Deps, tenant: string): Promise<z.infer<typeof Limits>> {
  const row = await readTenant(store.db, tenant)
  return { tenant, limits: row?.settings.limits ?? {}, usage: await currentUsage(store.db, tenant, platform.now()) }
}

async function routingView({ store }: Deps, tenant: string): Promise<z.infer<typeof TenantRouting>> {
  const settings = (await readTenant(store.db, tenant))?.settings ?? {}
  return { tenant, routing: routingOf(settings), set: settings.routing ?? {} }
}
