/** `GET /api/config`: what clients of ccs want to know of the server. It has no `success`. */
import { createRoute, z } from '@hono/zod-openapi'
import { VERSION } from '../../../shared/version.ts'
import { burstMs } from '../../core/gcra.ts'
import { requireScope } from '../../guard/authenticate.ts'
import { newRouter } from '../../guard/router.ts'
import { joi } from './joi.ts'
import { json, refusals } from './schemas.ts'

const Config = z
  .object({
    port: z.int(),
    defaultProjectPath: z.string().nullable(),
    defaultModel: z.string().nullable(),
    rateLimit: z.object({ enabled: z.boolean(), windowMs: z.number().nullable(), maxRequests: z.int().nullable() }),
    statistics: z.object({ enabled: z.boolean() }),
    version: z.string(),
  })
  .openapi('CcsConfig')

const route = createRoute({
  method: 'get',
  path: '/api/config',
  tags: ['ccs'],
  summary: 'Defaults and limits',
  description: '`rateLimit` is that of requests that start or change something, for your tenant.',
  middleware: [requireScope('config:read')] as const,
  responses: { 200: { description: 'The config.', content: json(Config) }, ...refusals },
})

export const config = newRouter(joi)

config.openapi(route, async (c) => {
  const { catalog } = c.get('deps')
  const [{ ccs }, tenant] = await Promise.all([catalog.compat(), catalog.tenant(c.get('principal').tenant)])
  const { port, protocol } = new URL(c.req.url)
  const rate = tenant?.settings.limits?.rates?.write
  return c.json(
    {
      port: port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port),
      defaultProjectPath: ccs.default_project_path ?? null,
      defaultModel: ccs.default_model ?? null,
      rateLimit: { enabled: rate !== undefined, windowMs: rate ? Math.ceil(burstMs(rate)) : null, maxRequests: rate?.burst ?? null },
      statistics: { enabled: true },
      version: VERSION,
    },
    200,
  )
})
