/**
 * `/admin/v1/tenants`: who the router serves, and what holds for them. Only operators make and change tenants; every other
 * admin sees his own.
 */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { Routing, TenantLimits, TenantSettings } from '../../shared/tenant-settings.ts'
import { notFound, problem, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { isOperator, mayReach, mustOperate, OPERATOR_TENANT } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { currentUsage } from '../limits/usage.ts'
import { listRunners } from '../store/runners.ts'
import { changeTenant, insertTenant, listTenants } from '../store/tenant-pages.ts'
import { readTenant, type TenantRow } from '../store/tenants.ts'
import { authorOf, commit, iso, isoOrNull } from './change.ts'
import { TenantUsage } from './limits.ts'
import { page, PageQuery, pageOf } from './pages.ts'

const TenantName = z.string().min(1).max(128)

export const Tenant = z
  .object({
    id: TenantId,
    name: z.string().nullable(),
    settings: TenantSettings,
    disabled: z.boolean(),
    disabled_at: z.iso.datetime().nullable(),
    created_at: z.iso.datetime(),
  })
  .openapi('Tenant')

const TenantInUse = Tenant.extend({ usage: TenantUsage }).openapi('TenantInUse')

const NewTenant = z.strictObject({ id: TenantId, name: TenantName.optional(), settings: TenantSettings.default({}) })

const TenantPatch = z.strictObject({
  name: TenantName.nullable().optional(),
  settings: z
    .strictObject({ routing: Routing.partial().nullable().optional(), limits: TenantLimits.nullable().optional() })
    .optional()
    .openapi({ description: 'Each part that is named replaces what was set of it; null takes it away.' }),
  disabled: z.boolean().optional().openapi({ description: 'Nobody of a disabled tenant gets in, its runners included.' }),
})

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const params = z.object({ id: z.string().max(64) })
const shared = { tags: ['tenants'], middleware: [requireAdmin()] }
const one = { 200: { description: 'The tenant.', content: json(Tenant) }, ...problems, ...notFound }

const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/tenants',
  summary: 'Tenants, by id',
  request: { query: PageQuery },
  responses: { 200: { description: 'A page.', content: json(pageOf(Tenant)) }, ...problems },
})
const create = createRoute({
  ...shared,
  method: 'post',
  path: '/admin/v1/tenants',
  summary: 'Make a tenant',
  request: { body: { required: true, content: json(NewTenant) } },
  responses: {
    201: { description: 'The tenant.', content: json(Tenant) },
    ...problems,
    409: problem('There is one of this id.'),
  },
})
const get = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/tenants/{id}',
  summary: 'One tenant, and what it has used of its limits',
  request: { params },
  responses: { 200: { description: 'The tenant.', content: json(TenantInUse) }, ...problems, ...notFound },
})
const patch = createRoute({
  ...shared,
  method: 'patch',
  path: '/admin/v1/tenants/{id}',
  summary: 'Change a tenant',
  request: { params, body: { required: true, content: json(TenantPatch) } },
  responses: one,
})

export const tenants = newRouter()

tenants.openapi(list, async (c) => {
  const { after, limit } = c.req.valid('query')
  const who = c.get('principal')
  const { db } = c.get('deps').store
  if (isOperator(who))
    return c.json(
      page(await listTenants(db, after, limit + 1), limit, (row) => row.id, view),
      200,
    )
  const own = await readTenant(db, who.tenant)
  return c.json({ data: own ? [view(own)] : [], next: null }, 200)
})

tenants.openapi(create, async (c) => {
  mustOperate(c)
  const deps = c.get('deps')
  const { id, name = null, settings } = c.req.valid('json')
  const row: TenantRow = { id, name, settings, disabledAt: null, revokedBefore: null, createdAt: deps.platform.now() }
  const statement = insertTenant(deps.store.db, row)
  await commit(deps, authorOf(c), [statement], { tenant: id, action: 'tenant.create', target: `tenant/${id}`, after: view(row) })
  return c.json(view(row), 201)
})

tenants.openapi(get, async (c) => {
  const { id } = c.req.valid('param')
  const { store, platform } = c.get('deps')
  const row = mayReach(c.get('principal'), { tenant: id }) ? await readTenant(store.db, id) : undefined
  if (!row) throw missing(id)
  return c.json({ ...view(row), usage: await currentUsage(store.db, id, platform.now()) }, 200)
})

tenants.openapi(patch, async (c) => {
  const deps = c.get('deps')
  const { id } = c.req.valid('param')
  if (!mayReach(c.get('principal'), { tenant: id })) throw missing(id)
  mustOperate(c)
  const { name, settings = {}, disabled } = c.req.valid('json')
  if (disabled && id === OPERATOR_TENANT)
    throw new Fault('invalid_request', `disabled: the tenant ${id} runs the router, and nobody could enable it again`, {
      extra: { field: 'disabled' },
    })
  const before = await readTenant(deps.store.db, id)
  if (!before) throw missing(id)
  const disabledAt =
    disabled === undefined || disabled === (before.disabledAt !== null) ? undefined : disabled ? deps.platform.now() : null
  const after: TenantRow = {
    ...before,
    ...(name === undefined ? {} : { name }),
    ...(disabledAt === undefined ? {} : { disabledAt }),
    settings: merged(before.settings, settings),
  }
  const statement = changeTenant(deps.store.db, id, { name, disabledAt, ...settings })
  await commit(deps, authorOf(c), [statement], {
    tenant: id,
    action: 'tenant.update',
    target: `tenant/${id}`,
    before: view(before),
    after: view(after),
  })
  // Their next token would be refused; until then they would hold their sockets.
  if (typeof disabledAt === 'number') await Promise.all((await listRunners(deps.store.db, id)).map((runner) => deps.hub.revoke(runner.id)))
  return c.json(view(after), 200)
})

/** What `changeTenant` makes of them. */
function merged(settings: TenantSettings, parts: { [K in keyof TenantSettings]?: TenantSettings[K] | null }): TenantSettings {
  return Object.fromEntries(
    Object.entries({ ...settings, ...parts }).filter(([, value]) => value !== null && value !== undefined),
  )
}

function view(row: TenantRow): z.infer<typeof Tenant> {
  const { id, name, settings, disabledAt, createdAt } = row
  return { id, name, settings, disabled: disabledAt !== null, disabled_at: isoOrNull(disabledAt), created_at: iso(createdAt) }
}

function missing(id: string): Fault {
  return new Fault('not_found', `no tenant ${id}`)
}
