/** `POST /v1/runners/token`: a runner trades a signed assertion for a short-lived token to connect with. */
import { createRoute } from '@hono/zod-openapi'
import { RunnerTokenRequest, RunnerTokenResponse, TOKEN_PATH } from '../../shared/runner-auth.ts'
import { assertionAudiences, exchangeAssertion } from '../guard/assertion.ts'
import { limitedByAddress } from '../guard/limits.ts'
import { noOrigin } from '../guard/perimeter.ts'
import { newRouter } from '../guard/router.ts'
import { problems } from './run-schemas.ts'

const route = createRoute({
  method: 'post',
  path: TOKEN_PATH,
  tags: ['runners'],
  summary: 'Trade a signed assertion for a runner token',
  description: 'Called by the runner itself. The token is good for 15 minutes and for runner routes only.',
  security: [],
  middleware: [noOrigin, limitedByAddress] as const,
  request: { body: { required: true, content: { 'application/json': { schema: RunnerTokenRequest } } } },
  responses: {
    200: { description: 'The token.', content: { 'application/json': { schema: RunnerTokenResponse } } },
    ...problems,
  },
})

export const runnerToken = newRouter()

runnerToken.openapi(route, async (c) => {
  const deps = c.get('deps')
  const { token, expiresInS } = await exchangeAssertion(
    deps,
    c.req.valid('json').assertion,
    assertionAudiences(deps.settings, c.req.url),
  )
  c.header('Cache-Control', 'no-store')
  return c.json({ token, expires_in_s: expiresInS }, 200)
})
