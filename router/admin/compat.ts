/**
 * `/admin/v1/compat`: how the dialects of older servers are answered. They are those of the router as a whole, so they are
 * for operators.
 */
import { createRoute, z } from '@hono/zod-openapi'
import { CompatSettings } from '../../shared/compat-settings.ts'
import { notFound, problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { mustOperate } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { readCompat } from '../store/compat-settings.ts'
import { changeCompat } from './apply-compat.ts'
import { authorOf } from './change.ts'

const Settings = z.object(CompatSettings.shape).strict().openapi('CompatSettings')
const content = { 'application/json': { schema: Settings } }
const admin = { middleware: [requireAdmin()], path: '/admin/v1/compat', tags: ['config'] }
const responses = { 200: { description: 'What holds, with the defaults.', content }, ...problems }

const get = createRoute({ ...admin, method: 'get', summary: 'How the dialects of older servers are answered', responses })
const put = createRoute({
  ...admin,
  method: 'put',
  summary: 'Set how the dialects of older servers are answered, in place of what was set',
  description:
    'What is not named is as it is by default. A family that is not `enabled` is not there: its paths are unknown. `claude_code_api.anonymous` lets everybody run as that tenant who brings no token, on the routes of that family alone: give the tenant limits first. Takes effect at once here, and within two seconds on other replicas.',
  request: { body: { required: true, content } },
  responses: { ...responses, ...notFound },
})

export const compat = newRouter()

compat.openapi(get, async (c) => {
  mustOperate(c)
  return c.json(await readCompat(c.get('deps').store.db), 200)
})

compat.openapi(put, async (c) => {
  mustOperate(c)
  const value = c.req.valid('json')
  await changeCompat(c.get('deps'), authorOf(c), value)
  return c.json(value, 200)
})
