/** `POST /admin/v1/enrolment-tokens`: an admin lets one machine in. */
import { createRoute, z } from '@hono/zod-openapi'
import { Name, TenantId } from '../../shared/ids.ts'
import { problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { ENROLMENT_TTL_S, mintEnrolmentToken } from '../guard/enrolment.ts'
import { newRouter } from '../guard/router.ts'

const Body = z.strictObject({
  pool: Name.default('default').describe('The pool that the runner will belong to'),
  tenant: TenantId.optional().describe('Your own unless given; the runner will serve no other'),
  ttl_s: z.int().min(1).max(ENROLMENT_TTL_S).default(ENROLMENT_TTL_S).describe('Seconds until it expires'),
})

const route = createRoute({
  method: 'post',
  path: '/admin/v1/enrolment-tokens',
  tags: ['admin'],
  summary: 'Make a one-time token that enrols a runner',
  description: 'Good for one machine and for an hour at most. It is in this answer and nowhere else.',
  middleware: [requireAdmin()] as const,
  request: { body: { required: true, content: { 'application/json': { schema: Body } } } },
  responses: {
    201: {
      description: 'The token.',
      content: { 'application/json': { schema: z.object({ token: z.string(), expires_at: z.iso.datetime() }) } },
    },
    ...problems,
  },
})

export const enrolmentTokens = newRouter()

enrolmentTokens.openapi(route, async (c) => {
  const { pool, ttl_s: ttlS, tenant = c.get('principal').tenant } = c.req.valid('json')
  const { token, expiresAt } = await mintEnrolmentToken(c.get('deps'), { tenant, pool, ttlS })
  c.header('Cache-Control', 'no-store')
  return c.json({ token, expires_at: new Date(expiresAt).toISOString() }, 201)
})
