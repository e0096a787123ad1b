/** `/admin/v1/retention`: how long sessions are kept that nobody uses. It holds for the router as a whole, so it is for operators. */
import { createRoute, z } from '@hono/zod-openapi'
import { problems } from '../api/run-schemas.ts'
import { requireAdmin } from '../guard/authenticate.ts'
import { mustOperate } from '../guard/operator.ts'
import { newRouter } from '../guard/router.ts'
import { readRetention, RetentionSettings } from '../store/session-retention.ts'
import { changeRetention } from './apply-retention.ts'
import { authorOf } from './change.ts'

const Settings = z.object(RetentionSettings.shape).strict().openapi('RetentionSettings')
const content = { 'application/json': { schema: Settings } }
const admin = { middleware: [requireAdmin()], path: '/admin/v1/retention', tags: ['config'] }
const responses = { 200: { description: 'What holds, with the defaults.', content }, ...problems }

const get = createRoute({ ...admin, method: 'get', summary: 'How long things are kept', responses })
const put = createRoute({
  ...admin,
  method: 'put',
  summary: 'Set how long things are kept',
  description:
    'What is not named is as it is by default. Sessions are deleted soon after their time, with what was said in them; one that a run of waits or is under way stays.',
  request: { body: { required: true, content } },
  responses,
})

export const retention = newRouter()

retention.openapi(get, async (c) => {
  mustOperate(c)
  return c.json(await readRetention(c.get('deps').store.db), 200)
})

retention.openapi(put, async (c) => {
  mustOperate(c)
  const value = c.req.valid('json')
  await changeRetention(c.get('deps'), authorOf(c), value)
  return c.json(value, 200)
})
