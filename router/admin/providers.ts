/** `/admin/v1/providers`: accounts that pay for tokens, and how they do. A key goes in and never comes out. */
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import { ProviderId } from '../../shared/grants.ts'
import { TenantId } from '../../shared/ids.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { isOperator, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { AppEnv } from '../ports.ts'
import { healthView } from '../providers/health-view.ts'
import { boundSessions } from '../store/bindings.ts'
import { readHealth } from '../store/provider-health.ts'
import { findProvider, readProviders, type ProviderRow } from '../store/providers.ts'
import { readTenant } from '../store/tenants.ts'
import { changeProvider, createProvider, providerView, removeProvider, resetProvider, type Applied } from './apply-provider.ts'
import { authorOf, same } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'
import { ChangedProvider, Health, NewProvider, Provider, ProviderPatch } from './provider-schemas.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const query = z.strictObject({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) })
const shared = { tags: ['providers'], middleware: [requireAdmin()] }
const conflict = { 409: { description: 'It is there already, or was changed meanwhile.' } }
const one = { 200: { description: 'The provider.', content: json(Provider) }, ...problems, ...notFound }
const changed = { 200: { description: 'The provider.', content: json(ChangedProvider) }, ...problems, ...notFound, ...conflict }
const PATH = '/admin/v1/providers'

const list = createRoute({
  ...shared,
  method: 'get',
  path: PATH,
  summary: 'Providers with their health, by id; disabled ones too',
  request: { query: TenantPageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(Provider)) }, ...problems },
})
const create = createRoute({
  ...shared,
  method: 'post',
  path: PATH,
  summary: 'Add a provider',
  description:
    'The key is kept encrypted, sent to a runner sealed for one run, and shown by its last four characters and a fingerprint.',
  request: { body: { required: true, content: json(NewProvider) } },
  responses: { 201: { description: 'The provider.', content: json(ChangedProvider) }, ...problems, ...conflict },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: `${PATH}/{id}`,
  summary: 'One provider',
  request: { params, query },
  responses: one,
})
const patch = createRoute({
  ...shared,
  method: 'patch',
  path: `${PATH}/{id}`,
  summary: 'Change a provider',
  description:
    'What is named replaces what was there. A new key or base URL closes its breaker. Runs under way keep what they have.',
  request: { params, query, body: { required: true, content: json(ProviderPatch) } },
  responses: changed,
})
const remove = createRoute({
  ...shared,
  method: 'delete',
  path: `${PATH}/{id}`,
  summary: 'Remove a provider, its health and its bindings',
  request: { params, query },
  responses: { 204: { description: 'It is gone.' }, ...problems, ...notFound, ...conflict },
})
const enable = createRoute({
  ...shared,
  method: 'post',
  path: `${PATH}/{id}/enable`,
  summary: 'Use a provider again',
  request: { params, query },
  responses: changed,
})
const disable = createRoute({
  ...shared,
  method: 'post',
  path: `${PATH}/{id}/disable`,
  summary: 'Never choose a provider',
  request: { params, query },
  responses: changed,
})
const reset = createRoute({
  ...shared,
  method: 'post',
  path: `${PATH}/{id}/reset`,
  summary: 'Close the breakers of a provider',
  request: { params, query },
  responses: one,
})
const health = createRoute({
  ...shared,
  method: 'get',
  path: `${PATH}/{id}/health`,
  summary: 'Breaker, failures, totals, latency and bound sessions of a provider',
  request: { params, query },
  responses: { 200: { description: 'Its health.', content: json(Health) }, ...problems, ...notFound },
})

export const providers = newRouter()

providers.openapi(list, async (c) => {
  const { tenant: wished, after = '', limit } = c.req.valid('query')
  const tenant = tenantOf(c, wished)
  const rows = (await readProviders(c.get('deps').store.db, tenant)).filter(({ id }) => id > after)
  const healthOf = await healths(c, tenant)
  return c.json(
    page(
      rows,
      limit,
      (row) => row.id,
      (row) => ({ ...providerView(row), health: healthOf(row.id) }),
    ),
    200,
  )
})

providers.openapi(create, async (c) => {
  const { tenant, ...wish } = c.req.valid('json')
  const deps = c.get('deps')
  const whose = tenantOf(c, tenant)
  // A slip of the pen must not make a tenant that has a key.
  if (tenant !== undefined && !(await readTenant(deps.store.db, whose)))
    throw new Fault('not_found', `no tenant ${whose}`, { extra: { field: 'tenant' } })
  if (wish.prices !== null) await mayPrice(c, whose)
  return c.json(await shown(c, await createProvider(deps, authorOf(c), whose, wish)), 201)
})

providers.openapi(get, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  return c.json({ ...providerView(row), health: (await healths(c, row.tenant))(row.id) }, 200)
})

providers.openapi(patch, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  const wish = c.req.valid('json')
  if (wish.prices !== undefined && !same(wish.prices, row.prices)) await mayPrice(c, row.tenant)
  return c.json(await shown(c, await changeProvider(c.get('deps'), authorOf(c), row, wish)), 200)
})

providers.openapi(remove, async (c) => {
  await removeProvider(c.get('deps'), authorOf(c), await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant))
  return c.body(null, 204)
})

providers.openapi(enable, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  return c.json(await shown(c, await changeProvider(c.get('deps'), authorOf(c), row, { enabled: true }, 'provider.enable')), 200)
})

providers.openapi(disable, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  return c.json(
    await shown(c, await changeProvider(c.get('deps'), authorOf(c), row, { enabled: false }, 'provider.disable')),
    200,
  )
})

providers.openapi(reset, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  await resetProvider(c.get('deps'), authorOf(c), row, (await healths(c, row.tenant))(row.id))
  return c.json({ ...providerView(row), health: (await healths(c, row.tenant))(row.id) }, 200)
})

providers.openapi(health, async (c) => {
  const row = await mustFind(c, c.req.valid('param').id, c.req.valid('query').tenant)
  return c.json((await healths(c, row.tenant))(row.id), 200)
})

async function mustFind(c: Context<AppEnv>, id: string, wished: string | undefined): Promise<ProviderRow> {
  const tenant = tenantOf(c, wished)
  const row = ProviderId.safeParse(id).success ? await findProvider(c.get('deps').store.db, tenant, id) : undefined
  if (!row) throw new Fault('not_found', `no provider ${id}`)
  return row
}

/** What a budget is charged by is for those who set the budget: a price of nothing would lift it. Throws `forbidden`. */
async function mayPrice(c: Context<AppEnv>, tenant: string): Promise<void> {
  if (isOperator(c.get('principal'))) return
  const { run_usd: _reserved, ...budgets } = (await readTenant(c.get('deps').store.db, tenant))?.settings.limits?.budget ?? {}
  if (Object.values(budgets).every((usd) => usd === undefined)) return
  throw new Fault('forbidden', `prices: the tenant ${tenant} has a budget, so they are set by an operator`, {
    extra: { field: 'prices' },
  })
}

/** The health of every provider of a tenant, by id. */
async function healths(c: Context<AppEnv>, tenant: string): Promise<(id: string) => z.infer<typeof Health>> {
  const { store, platform } = c.get('deps')
  const [rows, bound] = await Promise.all([readHealth(store.db, tenant), boundSessions(store.db, tenant, platform.now())])
  return (id) => ({ ...healthView(rows.filter((row) => row.provider === id)), bound_sessions: bound.get(id) ?? 0 })
}

async function shown(c: Context<AppEnv>, { row, warnings }: Applied): Promise<z.infer<typeof ChangedProvider>> {
  return { ...providerView(row), health: (await healths(c, row.tenant))(row.id), warnings: [...warnings] }
}
