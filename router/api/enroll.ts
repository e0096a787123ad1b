/** `POST /v1/runners/enroll`: a machine becomes a runner. The one-time token in the body is all it needs. */
import { createRoute } from '@hono/zod-openapi'
import { ENROLL_PATH, EnrollRequest, EnrollResponse } from '../../shared/runner-auth.ts'
import { enrollRunner } from '../guard/enrolment.ts'
import { limitedByAddress } from '../guard/limits.ts'
import { noOrigin } from '../guard/perimeter.ts'
import { newRouter } from '../guard/router.ts'
import { problems } from './run-schemas.ts'

const route = createRoute({
  method: 'post',
  path: ENROLL_PATH,
  tags: ['runners'],
  summary: 'Enrol a machine',
  description: 'Called by `runyard runner enroll`. Takes the public halves of two keys that were made on the machine.',
  security: [],
  middleware: [noOrigin, limitedByAddress] as const,
  request: { body: { required: true, content: { 'application/json': { schema: EnrollRequest } } } },
  responses: {
    201: { description: 'Who the machine is from now on.', content: { 'application/json': { schema: EnrollResponse } } },
    ...problems,
  },
})

export const enroll = newRouter()

enroll.openapi(route, async (c) => {
  const { log, ...deps } = c.get('deps')
  const request = c.req.valid('json')
  const { runner, tenant, pool } = await enrollRunner(deps, request)
  log.info({ runner, tenant, pool, name: request.name, versions: request.versions }, 'a runner was enrolled')
  return c.json({ runner_id: runner, tenant, pool }, 201)
})
