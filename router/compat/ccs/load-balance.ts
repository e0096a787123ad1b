/**
 * `/api/load-balance`: the providers of the tenant in the words of ccs. They are those of the admin API, so what is changed
 * here is kept, written down in the audit, and felt by every router.
 */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { ProviderId } from '../../../shared/grants.ts'
import { routingOf } from '../../../shared/tenant-settings.ts'
import { changeProvider, resetProvider } from '../../admin/apply-provider.ts'
import { authorOf } from '../../admin/change.ts'
import { standingOf } from '../../core/breaker.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import { healthView } from '../../providers/health-view.ts'
import type { AppEnv } from '../../ports.ts'
import { boundSessions, readBindings } from '../../store/bindings.ts'
import { readHealth, type HealthRow } from '../../store/provider-health.ts'
import { findProvider, readProviders, type ProviderRow } from '../../store/providers.ts'
import { joi } from './joi.ts'
import { json, refusals } from './schemas.ts'

/** Bindings of sessions that are used, which is what is shown; a map has no pages. */
const MAX_BINDINGS = 10_000

const success = z.literal(true)
const read = { method: 'get' as const, tags: ['ccs'], middleware: [requireScope('config:read')] }

const Provider = z
  .object({
    id: z.string(),
    name: z.string(),
    weight: z.int(),
    enabled: z.boolean(),
    healthy: z.boolean(),
    consecutiveFailures: z.int(),
    totalRequests: z.int(),
    boundSessions: z.int(),
  })
  .openapi('CcsProvider')
const Status = z
  .object({ success, strategy: z.enum(['round-robin', 'weighted', 'least-busy', 'none']), failover: z.boolean(), providers: z.array(Provider) })
  .openapi('CcsLoadBalance')
const Bindings = z.object({ success, bindings: z.record(z.string(), z.string()) }).openapi('CcsBindings')
const status = createRoute({
  ...read,
  path: '/api/load-balance/status',
  summary: 'Providers and how they do, disabled ones too',
  description: '`healthy`: runs may go there now. One that failed is healthy again when its `recovery_s` is over, and the next run tries it.',
  responses: { 200: { description: 'The providers.', content: json(Status) }, ...refusals },
})
const bindings = createRoute({
  ...read,
  path: '/api/load-balance/bindings',
  summary: 'Sessions and the providers that they are with',
  responses: {
    200: { description: 'Ids of providers by those of sessions.', content: json(Bindings) },
    ...refusals,
  },
})
const changeOf = (what: string, summary: string) =>
  createRoute({
    method: 'post' as const,
    path: `/api/load-balance/providers/{id}/${what}`,
    tags: ['ccs'],
    summary,
    middleware: [requireScope('config:write')] as const,
    request: { params: z.object({ id: z.string().max(64) }) },
    responses: {
      200: { description: 'It was done.', content: json(z.object({ success, message: z.string() }).openapi('CcsProviderChanged')) },
      ...refusals,
      409: { description: 'It was changed meanwhile.', content: refusals[400].content },
    },
  })

export const loadBalance = newRouter(joi)

loadBalance.openapi(status, async (c) => {
  const { store, catalog, platform } = c.get('deps')
  const { tenant } = c.get('principal')
  const now = platform.now()
  const reading = [readProviders(store.db, tenant), readHealth(store.db, tenant), boundSessions(store.db, tenant, now), catalog.tenant(tenant)] as const
  const [rows, health, bound, its] = await Promise.all(reading)
  if (rows.length === 0) return c.json({ success: true as const, strategy: 'none' as const, failover: false, providers: [] }, 200)
  const { strategy, failover } = routingOf(its?.settings ?? {})
  const view = ({ id, name, weight, enabled }: ProviderRow) => {
    const own = health.filter((row) => row.provider === id)
    const { consecutive_failures: consecutiveFailures, requests: totalRequests } = healthView(own)
    return { id, name, weight, enabled, healthy: isHealthy(own, now), consecutiveFailures, totalRequests, boundSessions: bound.get(id) ?? 0 }
  }
  return c.json({ success: true as const, strategy, failover, providers: rows.map(view) }, 200)
})

loadBalance.openapi(bindings, async (c) => {
  const { store, platform } = c.get('deps')
  const rows = await readBindings(store.db, c.get('principal').tenant, { limit: MAX_BINDINGS, now: platform.now() })
  return c.json({ success: true as const, bindings: Object.fromEntries(rows.map(({ session, provider }) => [session, provider])) }, 200)
})

loadBalance.openapi(changeOf('reset', 'Take a provider for healthy again'), async (c) => {
  const deps = c.get('deps')
  const row = await mustFind(c, c.req.valid('param').id)
  const health = await readHealth(deps.store.db, row.tenant)
  await resetProvider(deps, authorOf(c), row, healthView(health.filter(({ provider }) => provider === row.id)))
  return c.json({ success: true as const, message: `Provider ${row.id} health reset` }, 200)
})
for (const [what, enabled, summary] of [
  ['enable', true, 'Use a provider again'],
  ['disable', false, 'Never choose a provider'],
] as const) {
  loadBalance.openapi(changeOf(what, summary), async (c) => {
    const row = await mustFind(c, c.req.valid('param').id)
    await changeProvider(c.get('deps'), authorOf(c), row, { enabled }, `provider.${what}`)
    return c.json({ success: true as const, message: `Provider ${row.id} ${what}d` }, 200)
  })
}

/** Of the provider as a whole; a model that one of them does not have leaves it healthy. */
function isHealthy(rows: readonly HealthRow[], now: number): boolean {
  const own = rows.find(({ model }) => model === '')
  return own === undefined || standingOf(own, now).is !== 'open'
}

async function mustFind(c: Context<AppEnv>, id: string): Promise<ProviderRow> {
  const { db } = c.get('deps').store
  const { tenant } = c.get('principal')
  const row = ProviderId.safeParse(id).success ? await findProvider(db, tenant, id) : undefined
  if (row) return row
  const some = (await readProviders(db, tenant)).length > 0
  throw new Fault('not_found', some ? 'Provider not found' : 'Load balancing not configured')
}
