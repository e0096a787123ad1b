/** `GET /v1/sessions/{id}/messages`: what was asked and answered in a session, in pages from either end. */
import { createRoute, z } from '@hono/zod-openapi'
import { messagesOf } from '../engine/messages.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { notFound, problems } from './run-schemas.ts'
import { MessagesPage, MessagesQuery, messageView } from './session-schemas.ts'

const route = createRoute({
  method: 'get',
  path: '/v1/sessions/{id}/messages',
  tags: ['sessions'],
  summary: 'What was said in a session',
  description:
    'Each run of it is a message of the user from its lease on, and one of the assistant once it has ended. An answer is kept as long as the events of its run.',
  middleware: [requireScope('sessions:read')] as const,
  request: { params: z.object({ id: z.string().max(64) }), query: MessagesQuery },
  responses: { 200: { description: 'A page.', content: { 'application/json': { schema: MessagesPage } } }, ...problems, ...notFound },
})

export const sessionMessages = newRouter()

sessionMessages.openapi(route, async (c) => {
  const { messages, hasMore } = await messagesOf(c.get('deps'), c.get('principal').tenant, c.req.valid('param').id, c.req.valid('query'))
  const next = hasMore ? (messages.at(-1)?.id ?? null) : null
  return c.json({ data: messages.map((said) => messageView(said)), has_more: hasMore, next }, 200)
})
