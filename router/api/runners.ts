/** `GET /v1/runners`: the machines of this tenant, connected or not. */
import { createRoute, z } from '@hono/zod-openapi'
import { PolicyView } from '../../shared/policy.ts'
import { requireScope } from '../guard/authenticate.ts'
import { newRouter } from '../guard/router.ts'
import { listRunners } from '../store/runners.ts'
import { problems } from './run-schemas.ts'

const Runner = z
  .object({
    id: z.string(),
    name: z.string(),
    pool: z.string(),
    labels: z.record(z.string(), z.string()),
    status: z.enum(['online', 'draining', 'offline']),
    slots: z.int(),
    busy: z.int(),
    provider: z.string().nullable().openapi({ description: '`demo` means that this runner answers from the scripted model.' }),
    cli_version: z.string().nullable(),
    agent_version: z.string().nullable(),
    policy: PolicyView.nullable().openapi({
      description: 'What its owner allows. A run that no runner allows is refused at once, by the rule. Null: it has not said.',
    }),
    created_at: z.iso.datetime(),
    last_seen_at: z.iso.datetime().nullable(),
  })
  .openapi('Runner')

const route = createRoute({
  method: 'get',
  path: '/v1/runners',
  tags: ['runners'],
  summary: 'Runners of this tenant',
  middleware: [requireScope('runs:read')] as const,
  responses: {
    200: { description: 'All of them.', content: { 'application/json': { schema: z.object({ data: z.array(Runner) }) } } },
    ...problems,
  },
})

export const runners = newRouter()

runners.openapi(route, async (c) => {
  const { store, hub } = c.get('deps')
  const { tenant } = c.get('principal')
  const online = new Map((await hub.online(tenant)).map((r) => [r.id, r]))
  const data = (await listRunners(store.db, tenant)).map((row) => {
    const live = online.get(row.id)
    const status: z.infer<typeof Runner>['status'] = !live ? 'offline' : live.draining ? 'draining' : 'online'
    return {
      id: row.id,
      name: row.name,
      pool: row.pool,
      labels: row.labels,
      status,
      slots: live?.slots ?? 0,
      busy: live?.busy ?? 0,
      provider: live?.provider ?? null,
      cli_version: live?.cliVersion ?? null,
      agent_version: live?.agentVersion ?? null,
      policy: live?.policy ?? null,
      created_at: new Date(row.createdAt).toISOString(),
      last_seen_at: row.lastSeenAt === null ? null : new Date(row.lastSeenAt).toISOString(),
    }
  })
  return c.json({ data }, 200)
})
