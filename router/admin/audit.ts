/** `GET /admin/v1/audit`: who changed what, the newest first. */
import { createRoute, z } from '@hono/zod-openapi'
import { problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { readAudit } from '../store/audit-pages.ts'
import { iso } from './change.ts'
import { page, pageOf, TenantPageQuery } from './pages.ts'

const Entry = z
  .object({
    id: z.string(),
    at: z.iso.datetime(),
    tenant: z.string(),
    actor: z.string().openapi({ description: 'Subject of the token; `file` for what the config file did.' }),
    jti: z.string(),
    action: z.string().openapi({ example: 'provider.update' }),
    target: z.string().openapi({ example: 'provider/main' }),
    before: z.unknown(),
    after: z.unknown(),
    request_id: z.string().nullable(),
  })
  .openapi('AuditEntry')

const route = createRoute({
  method: 'get',
  path: '/admin/v1/audit',
  tags: ['audit'],
  summary: 'Who changed what, newest first',
  middleware: [requireAdmin()] as const,
  request: {
    query: TenantPageQuery.extend({
      action: z.string().min(1).max(128).optional(),
      target: z.string().min(1).max(256).optional(),
      since: z.iso.datetime({ offset: true }).optional(),
    }),
  },
  responses: { 200: { description: 'A page.', content: { 'application/json': { schema: pageOf(Entry) } } }, ...problems },
})

export const auditLog = newRouter()

auditLog.openapi(route, async (c) => {
  const { tenant, action, target, since, after, limit } = c.req.valid('query')
  const wanted = { action, target, since: since === undefined ? undefined : Date.parse(since), after, limit: limit + 1 }
  const rows = await readAudit(c.get('deps').store.db, tenantOf(c, tenant), wanted)
  const view = ({ requestId, at, ...row }: (typeof rows)[number]) => ({ ...row, at: iso(at), request_id: requestId })
  return c.json(
    page(rows, limit, (row) => row.id, view),
    200,
  )
})
