/** `/v1/models`: what may be asked for, in a shape that clients of OpenAI and of Anthropic both read. */
import { createRoute, z } from '@hono/zod-openapi'
import { modelsFor } from '../engine/models.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { problems } from './run-schemas.ts'

const Model = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    type: z.literal('model'),
    display_name: z.string(),
    created: z.int().openapi({ description: 'When it came out is not known here: always 0.' }),
    created_at: z.iso.datetime(),
    owned_by: z.string(),
    providers: z.array(z.string()).openapi({ description: 'Those that serve it; `local` is the login of the machine.' }),
  })
  .openapi('Model')
const Models = z
  .object({
    object: z.literal('list'),
    data: z.array(Model),
    has_more: z.literal(false),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  })
  .openapi('Models')

const list = createRoute({
  method: 'get',
  path: '/v1/models',
  tags: ['runs'],
  summary: 'Models that you may ask for',
  description: 'All in one page, by name. A provider that takes any model is there with the aliases of the CLI, or with what your token names.',
  middleware: [requireScope('runs:read')] as const,
  responses: { 200: { description: 'The models.', content: { 'application/json': { schema: Models } } }, ...problems },
})

export const models = newRouter()

models.openapi(list, async (c) => {
  const known = await modelsFor(c.get('deps'), c.get('principal'))
  const data = known.map(({ name, providers }) => ({
    id: name,
    object: 'model' as const,
    type: 'model' as const,
    display_name: name,
    created: 0,
    created_at: new Date(0).toISOString(),
    owned_by: providers[0] ?? 'local',
    providers: [...providers],
  }))
  return c.json({ object: 'list' as const, data, has_more: false as const, first_id: data.at(0)?.id ?? null, last_id: data.at(-1)?.id ?? null }, 200)
})
