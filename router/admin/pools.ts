/** `GET /admin/v1/pools`: a pool is what runners and enrolment tokens say it is; there is nothing to make or to delete. */
import { createRoute, z } from '@hono/zod-openapi'
import { Name, TenantId } from '../../shared/ids.ts'
import { problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { tenantOf } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import type { OnlineRunner } from '../ports.ts'
import { countEnrolments, countRunners, countWaiting } from '../store/runner-pages.ts'

const Pool = z
  .object({
    name: Name,
    runners: z.int().openapi({ description: 'Enrolled and not revoked.' }),
    online: z.int(),
    draining: z.int(),
    slots: z.int().openapi({ description: 'Of those that take new runs.' }),
    busy: z.int(),
    waiting: z.int().openapi({ description: 'Runs that wait for a slot.' }),
    enrolments: z.int().openapi({ description: 'Enrolment tokens that are still good.' }),
  })
  .openapi('Pool')

const route = createRoute({
  method: 'get',
  path: '/admin/v1/pools',
  tags: ['fleet'],
  summary: 'Pools of a tenant, and what they can take',
  middleware: [requireAdmin()] as const,
  request: { query: z.strictObject({ tenant: TenantId.optional().openapi({ description: 'Your own unless given.' }) }) },
  responses: {
    200: {
      description: 'All of them.',
      content: { 'application/json': { schema: z.object({ data: z.array(Pool), next: z.null() }) } },
    },
    ...problems,
  },
})

export const pools = newRouter()

pools.openapi(route, async (c) => {
  const { store, hub, platform } = c.get('deps')
  const tenant = tenantOf(c, c.req.valid('query').tenant)
  const [runners, enrolments, waiting, online] = await Promise.all([
    countRunners(store.db, tenant),
    countEnrolments(store.db, tenant, platform.now()),
    countWaiting(store.db, tenant),
    hub.online(tenant),
  ])
  const names = [...new Set([...runners, ...enrolments, ...waiting, ...online].map(({ pool }) => pool))].toSorted()
  const data = names.map((name) => ({
    name,
    runners: countIn(runners, name),
    ...capacity(online.filter(({ pool }) => pool === name)),
    waiting: countIn(waiting, name),
    enrolments: countIn(enrolments, name),
  }))
  return c.json({ data, next: null }, 200)
})

const countIn = (counts: readonly { pool: string; n: number }[], name: string): number =>
  counts.find(({ pool }) => pool === name)?.n ?? 0

function capacity(online: readonly OnlineRunner[]): Pick<z.infer<typeof Pool>, 'online' | 'draining' | 'slots' | 'busy'> {
  const draining = online.filter((runner) => runner.draining)
  return {
    online: online.length,
    draining: draining.length,
    slots: online.reduce((sum, { slots, draining: leaves }) => sum + (leaves ? 0 : slots), 0),
    busy: online.reduce((sum, { busy }) => sum + busy, 0),
  }
}
