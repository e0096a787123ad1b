/** `/v1/usage` and `/admin/v1/usage`: what the runs that have ended used, all together and by something. */
import { createRoute, type z } from '@hono/zod-openapi'
import { usageBy, usageSummary } from '../engine/usage.ts'
import { requireAdmin, requireScope } from '../guard/authenticate.ts'
import { isOperator, tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { Deps } from '../ports.ts'
import { problems } from './run-schemas.ts'
import { iso, rangeOf, TenantUsageQuery, Usage, usedView, UsageQuery } from './usage-schemas.ts'

const responses = { 200: { description: 'The numbers.', content: { 'application/json': { schema: Usage } } }, ...problems }

const own = createRoute({
  method: 'get',
  path: '/v1/usage',
  tags: ['usage'],
  summary: 'What the runs of your tenant used',
  middleware: [requireScope('stats:read')] as const,
  request: { query: UsageQuery },
  responses,
})
const any = createRoute({
  method: 'get',
  path: '/admin/v1/usage',
  tags: ['usage'],
  summary: 'What the runs of a tenant used, or of all',
  middleware: [requireAdmin()] as const,
  request: { query: TenantUsageQuery },
  responses,
})

export const usage = newRouter()

usage.openapi(own, async (c) => c.json(await used(c.get('deps'), c.get('principal').tenant, c.req.valid('query')), 200))

usage.openapi(any, async (c) => {
  const query = c.req.valid('query')
  const all = query.group_by === 'tenant' && query.tenant === undefined && isOperator(c.get('principal'))
  return c.json(await used(c.get('deps'), all ? undefined : tenantOf(c, query.tenant), query), 200)
})

async function used(deps: Deps, tenant: string | undefined, query: z.infer<typeof TenantUsageQuery>): Promise<z.infer<typeof Usage>> {
  const { group_by, order, limit } = query
  const range = rangeOf(query)
  const [total, rows] = await Promise.all([
    usageSummary(deps, tenant, range),
    group_by === undefined ? [] : usageBy(deps, tenant, group_by, { ...range, order, limit }),
  ])
  return { from: iso(range.from), to: iso(range.to), group_by: group_by ?? null, total: usedView(total), data: rows.map((row) => usedView(row)) }
}
