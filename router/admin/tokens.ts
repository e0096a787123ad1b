/** `POST /admin/v1/tokens`: an admin makes a token for an app, a person or another admin. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { TenantId } from '../../shared/ids.ts'
import { problems } from '../api/run-schemas.ts'
import { APP_SCOPES } from '../core/scopes.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { DEFAULT_TTL_S, MAX_TTL_S, mintToken } from '../guard/mint.ts'
import { newRouter } from '../guard/router.ts'

const Body = z.strictObject({
  kind: z.enum(['app', 'admin']),
  scopes: z.array(z.enum(APP_SCOPES)).min(1).max(32).optional().describe('Of an app token; an admin token has every scope'),
  subject: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,127}$/, 'must be 1 to 128 letters, digits or . _ @ : + / -')
    .optional()
    .describe('Who it is for, as it will be shown; the kind unless given'),
  ttl_s: z.int().min(1).max(MAX_TTL_S).default(DEFAULT_TTL_S).describe('Seconds until it expires'),
  tenant: TenantId.optional().describe('Your own unless given; a tenant exists from its first token on'),
})

const route = createRoute({
  method: 'post',
  path: '/admin/v1/tokens',
  tags: ['admin'],
  summary: 'Make a token',
  description: 'The token is in this answer and nowhere else.',
  middleware: [requireAdmin()] as const,
  request: { body: { required: true, content: { 'application/json': { schema: Body } } } },
  responses: {
    201: {
      description: 'The token.',
      content: { 'application/json': { schema: z.object({ token: z.string(), jti: z.string(), expires_at: z.iso.datetime() }) } },
    },
    ...problems,
  },
})

export const adminTokens = newRouter()

adminTokens.openapi(route, async (c) => {
  const { kind, scopes, subject = kind, ttl_s: ttlS, tenant = c.get('principal').tenant } = c.req.valid('json')
  if (kind === 'admin' && scopes)
    throw new Fault('invalid_request', 'scopes: an admin token has every scope', { extra: { field: 'scopes' } })
  const { token, jti, expiresAt } = await mintToken(c.get('deps'), { kind, tenant, subject, scopes, ttlS })
  c.header('Cache-Control', 'no-store')
  return c.json({ token, jti, expires_at: new Date(expiresAt).toISOString() }, 201)
})
