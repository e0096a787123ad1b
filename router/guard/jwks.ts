/** The public halves of the router's keys, for whoever wants to check a token without asking us. */
import { createRoute, z } from '@hono/zod-openapi'
import { newRouter } from './router.ts'

const Jwk = z.object({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: z.string(),
  kid: z.string(),
  use: z.literal('sig'),
  alg: z.literal('EdDSA'),
})

const route = createRoute({
  method: 'get',
  path: '/.well-known/jwks.json',
  tags: ['operations'],
  summary: 'Public keys that our tokens are signed with',
  security: [],
  responses: {
    200: {
      description: 'A JSON Web Key Set (RFC 7517 §5)',
      content: { 'application/json': { schema: z.object({ keys: z.array(Jwk) }) } },
    },
  },
})

export const jwks = newRouter()

jwks.openapi(route, async (c) => {
  // Long enough to spare us the traffic, short enough for a new key to be known within minutes.
  c.header('Cache-Control', 'public, max-age=300')
  const live = await c.get('deps').keys.live()
  return c.json({ keys: live.flatMap((key) => key.jwks.keys) }, 200)
})
