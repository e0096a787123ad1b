/**
 * Health, for three kinds of asker: `/healthz` (is the process up), `/readyz` (would a run work) and `/health`, one
 * object that holds every key the clients of the older Claude servers read. None needs a token, so none names a tenant.
 */
import { probes } from '../../drizzle/schema.ts'
import { VERSION } from '../../shared/version.ts'
import { newRouter } from '../guard/router.ts'
import type { Deps } from '../ports.ts'

export const health = newRouter()

health.get('/healthz', (c) => c.json({ status: 'ok' }))

health.get('/readyz', async (c) => {
  const deps = c.get('deps')
  const database = await commits(deps)
  const { runners } = await deps.hub.load()
  const ready = database && runners > 0
  return c.json({ status: ready ? 'ready' : 'not ready', database: database ? 'ok' : 'does not commit', runners }, ready ? 200 : 503)
})

health.get('/health', async (c) => {
  const { hub, platform } = c.get('deps')
  const { slots, busy, cliVersion } = await hub.load()
  const { uptimeS, memory } = platform.vitals()
  return c.json({
    status: 'ok',
    version: VERSION,
    uptime: uptimeS,
    timestamp: new Date(platform.now()).toISOString(),
    // The CLI is on the runners; the older clients only ask whether there is one.
    claude_path: cliVersion === null ? null : 'claude',
    claude_version: cliVersion ?? 'unknown',
    concurrency: { active: busy, max: slots, queued: 0 },
    memory,
  })
})

/** Unauthenticated, so it costs at most one commit a second. */
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
