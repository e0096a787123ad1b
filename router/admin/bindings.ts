/** `/admin/v1/bindings`: which provider each session is with. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { ProviderId } from '../../shared/grants.ts'
import { SessionId, TenantId } from '../../shared/ids.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { deleteBinding, findBinding, readBindings, type BindingRow } from '../store/bindings.ts'
import { auditOf, authorOf, iso } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

const Binding = z
  .object({ session_id: z.string(), provider: z.string(), created_at: z.iso.datetime(), expires_at: z.iso.datetime() })
  .openapi('Binding')

const shared = { tags: ['providers'], middleware: [requireAdmin()] }

const list = createRoute({
  ...shared,
  method: 'get',
  path: '/admin/v1/bindings',
  summary: 'Sessions and the providers they are with',
  request: { query: TenantPageQuery.extend({ provider: ProviderId.optional() }) },
  responses: { 200: { description: 'A page.', content: { 'application/json': { schema: pageOf(Binding) } } }, ...problems },
})
const remove = createRoute({
  ...shared,
  method: 'delete',
  path: '/admin/v1/bindings/{session}',
  summary: 'Let the next run of a session choose its provider anew',
  request: {
    params: z.object({ session: z.string().max(64) }),
    query: z.strictObject({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) }),
  },
  responses: { 204: { description: 'It is bound to none.' }, ...problems, ...notFound },
})

export const bindings = newRouter()

bindings.openapi(list, async (c) => {
  const { store, platform } = c.get('deps')
  const { tenant, after, limit, provider } = c.req.valid('query')
  const rows = await readBindings(store.db, tenantOf(c, tenant), { after, limit: limit + 1, provider, now: platform.now() })
  return c.json(
    page(rows, limit, (row) => row.session, view),
    200,
  )
})

bindings.openapi(remove, async (c) => {
  const deps = c.get('deps')
  const { session } = c.req.valid('param')
  const tenant = tenantOf(c, c.req.valid('query').tenant)
  const row = SessionId.safeParse(session).success
    ? await findBinding(deps.store.db, tenant, session, deps.platform.now())
    : undefined
  if (!row) throw new Fault('not_found', `session ${session} is bound to no provider`)
  const audit = auditOf(deps, authorOf(c), { tenant, action: 'binding.delete', target: `session/${session}`, before: view(row) })
  await deleteBinding(deps.store, tenant, session, audit)
  return c.body(null, 204)
})

function view({ session, provider, createdAt, expiresAt }: BindingRow): z.infer<typeof Binding> {
  return { session_id: session, provider, created_at: iso(createdAt), expires_at: iso(expiresAt) }
}
