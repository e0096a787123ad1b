/** `POST /admin/v1/config/reload`: read the config file again now, and say what it changed. */
import { createRoute, z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { mustOperate } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { ConfigError } from './apply-config.ts'

const Report = z
  .object({
    file: z.string(),
    changed: z.boolean().openapi({ description: 'Whether its content was applied: false when it is what was applied before.' }),
    changes: z.array(z.string()),
    warnings: z.array(z.string()),
  })
  .openapi('ConfigReport')

const route = createRoute({
  method: 'post',
  path: '/admin/v1/config/reload',
  tags: ['config'],
  summary: 'Read the config file again',
  description:
    'It is read by itself within two seconds of a change. `force` applies it although it is the same, over what was set since.',
  middleware: [requireAdmin()] as const,
  request: { body: { content: { 'application/json': { schema: z.strictObject({ force: z.boolean().default(false) }) } } } },
  responses: {
    200: { description: 'What it did.', content: { 'application/json': { schema: Report } } },
    ...problems,
    ...notFound,
  },
})

export const config = newRouter()

config.openapi(route, async (c) => {
  mustOperate(c)
  const { config: source } = c.get('deps')
  if (!source) throw new Fault('not_found', 'this router has no config file; what it is to do is set by the admin API')
  const { force = false } = c.req.header('content-type') === undefined ? {} : c.req.valid('json')
  const report = await source.reload(force).catch((error: unknown) => {
    throw error instanceof ConfigError ? new Fault('invalid_request', `${error.message}; what was set before stays`) : error
  })
  return c.json({ file: source.file, ...report, changes: [...report.changes], warnings: [...report.warnings] }, 200)
})
