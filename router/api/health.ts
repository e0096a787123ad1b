/**
 * Health, for three kinds of asker: `/healthz` (is the process up), `/readyz` (would a run work) and `/health`, one
 * object that holds every key the clients of the older Claude servers read. None needs a token, so none names a tenant.
 */
import { createRoute, z, type RouteConfig } from '@hono/zod-openapi'
import { count, sql } from 'drizzle-orm'
import { probes, runs } from '../../drizzle/schema.ts'
import { VERSION } from '../../shared/version.ts'
import { newRouter } from '../guard/router.ts'
import type { Deps } from '../ports.ts'
import { Problem } from './run-schemas.ts'

const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const open = { method: 'get', tags: ['operations'], security: [] } satisfies Partial<RouteConfig>

const alive = createRoute({
  ...open,
  path: '/healthz',
  summary: 'Whether the process is up',
  responses: { 200: { description: 'It is.', content: json(z.object({ status: z.literal('ok') })) } },
})

const Readiness = z.object({ status: z.enum(['ready', 'not ready']), database: z.string(), runners: z.int() })
const ready = createRoute({
  ...open,
  path: '/readyz',
  summary: 'Whether a run would work',
  responses: {
    200: { description: 'The database commits, and a runner is connected.', content: json(Readiness) },
    503: { description: 'One of the two is missing.', content: { ...json(Readiness), 'application/problem+json': { schema: Problem } } },
  },
})

const seen = createRoute({
  ...open,
  path: '/health',
  summary: 'What the clients of older servers look for',
  responses: {
    200: {
      description: 'Numbers of the whole router, and of no tenant.',
      content: json(
        z.object({
          status: z.literal('ok'),
          version: z.string(),
          uptime: z.number(),
          timestamp: z.iso.datetime(),
          claude_path: z.string().openapi({ description: 'Empty while no runner is connected.' }),
          claude_version: z.string(),
          concurrency: z.object({ active: z.int(), max: z.int(), queued: z.int() }),
          memory: z.record(z.string(), z.number()),
        }),
      ),
    },
  },
})

export const health = newRouter()

health.openapi(alive, (c) => c.json({ status: 'ok' as const }, 200))

health.openapi(ready, async (c) => {
  const deps = c.get('deps')
  const database = await commits(deps)
  const { runners } = await deps.hub.load()
  const body = { database: database ? 'ok' : 'does not commit', runners }
  return database && runners > 0 ? c.json({ status: 'ready' as const, ...body }, 200) : c.json({ status: 'not ready' as const, ...body }, 503)
})

health.openapi(seen, async (c) => {
  const deps = c.get('deps')
  const { hub, platform } = deps
  const { slots, busy, cliVersion } = await hub.load()
  const { uptimeS, memory } = platform.vitals()
  const view = {
    status: 'ok' as const,
    version: VERSION,
    uptime: uptimeS,
    timestamp: new Date(platform.now()).toISOString(),
    // The CLI is on the runners; the older clients only ask whether there is one.
    claude_path: cliVersion === null ? '' : 'claude',
    claude_version: cliVersion ?? 'unknown',
    concurrency: { active: busy, max: slots, queued: await waiting(deps) },
    memory: { ...memory },
  }
  return c.json(view, 200)
})

/** Unauthenticated, so it costs at most one commit and one count a second. */
const PROBE_MS = 1_000
const probed = new WeakMap<object, { at: number; ok: boolean | undefined }>()

/**
 * A read would not notice a full disk or a poisoned connection. Remembered by what a router remembers of identity, which
 * outlives a request on every host, and only once it is known: another request's promise is nothing to wait for on every host.
 */
async function commits({ store, platform, identity, log }: Deps): Promise<boolean> {
  const now = platform.now()
  const last = probed.get(identity.strangers)
  if (last?.ok !== undefined && now - last.at < PROBE_MS) return last.ok
  const mine = { at: now, ok: last?.ok }
  probed.set(identity.strangers, mine)
  const probe = store.db.insert(probes).values({ id: 1, at: now }).onConflictDoUpdate({ target: probes.id, set: { at: now } })
  mine.ok = await store.batch([probe]).then(
    () => true,
    (error: unknown) => {
      log.warn({ err: error }, 'the database does not commit')
      return false
    },
  )
  return mine.ok
}

const counted = new WeakMap<object, { at: number; queued: number }>()

/** How many runs wait for a slot, of all tenants. A database that cannot be read makes nobody unhealthy: then it is what it was. */
async function waiting({ store, platform, identity, log }: Deps): Promise<number> {
  const now = platform.now()
  const last = counted.get(identity.strangers)
  if (last && now - last.at < PROBE_MS) return last.queued
  try {
    // Written out, as a partial index is not looked at for a parameter.
    const [row] = await store.db.select({ queued: count() }).from(runs).where(sql`${runs.state} = 'queued'`)
    const queued = row?.queued ?? 0
    counted.set(identity.strangers, { at: now, queued })
    return queued
  } catch (error) {
    log.warn({ err: error }, 'runs that wait cannot be counted')
    return last?.queued ?? 0
  }
}
