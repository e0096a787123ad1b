/** The router as a Worker: a fetch handler that makes its `Deps` anew for every request, and the objects behind it. */
import { createApp } from '../app.ts'
import { resealSecrets, tidy } from '../engine/housekeeping.ts'
import type { Deps, Store } from '../ports.ts'
import { markedByRunner, pruneUnstarted } from '../store/retention.ts'
import { overduePools, overdueRuns } from '../store/runs.ts'
import { settingsOf, type Env } from './env.ts'
import { WorkersHub } from './hub.ts'
import { workersLimiter } from './limiter.ts'
import { WorkersLine } from './line.ts'
import { log } from './log.ts'
import { identityFor, platform, vaultOf } from './platform.ts'
import { migratedStore } from './shared-store.ts'
import { sharedCatalog } from './treasury.ts'
import { wakeOutboxes, waking } from './wake-outbox.ts'

export { OutboxDO } from './outbox-object.ts'
export { PoolDO } from './pool-object.ts'
export { RunnerDO } from './runner-object.ts'
export { TenantDO } from './tenant-object.ts'

/** Longer than a run may be lost, cancelled or settled late in the ordinary way. */
const OVERDUE_MS = 10 * 60_000
/** Of one look, and of one call of an object, which can name 100 things in a query. */
const MARKED_AT_ONCE = 2_000
const FORGOTTEN_AT_ONCE = 50

const app = createApp((c) => (c.env as { deps: Deps }).deps)

export default {
  async fetch(request, env, ctx) {
    let deps: Deps
    try {
      deps = await depsOf(env, (work) => ctx.waitUntil(work))
    } catch (error) {
      log.error({ err: error }, 'the router is not set up')
      return Response.json(
        { type: 'about:blank', title: 'the router is not set up', status: 503, detail: 'see its log', code: 'storage' },
        { status: 503, headers: { 'content-type': 'application/problem+json', 'retry-after': '5' } },
      )
    }
    return app.fetch(request, { deps }, ctx)
  },

  async scheduled(_event, env) {
    const store = await migratedStore(env)
    const { db } = store
    const now = Date.now()
    await tidy(store, now)
    await pruneUnstarted(db, now - settingsOf(env).keep.ageMs, now)
    await remind(env, db, now)
    await wakeOutboxes(env)
    await resealSecrets({ store, vault: await vaultOf(env), log })
    await forget(env, db)
  },
} satisfies ExportedHandler<Env>

/** Rows that should have moved long ago: whoever has them is asked to look, should all of their own alarms have failed. */
async function remind(env: Env, db: Store['db'], now: number): Promise<void> {
  for (const { tenant, pool } of await overduePools(db, now - OVERDUE_MS))
    await env.POOL.getByName(`${tenant}/${pool}`).remind({ tenant, pool })
  for (const { id, tenant, runner, fence } of await overdueRuns(db, now - OVERDUE_MS)) {
    if (runner !== null) await env.RUNNER.getByName(runner).account({ run: id, tenant }, fence)
  }
}

/** Events of deleted sessions: whoever has them does not know of it yet. */
async function forget(env: Env, db: Store['db']): Promise<void> {
  for (const [runner, ids] of await markedByRunner(db, MARKED_AT_ONCE)) {
    const object = env.RUNNER.getByName(runner)
    try {
      for (let i = 0; i < ids.length; i += FORGOTTEN_AT_ONCE) await object.forget(ids.slice(i, i + FORGOTTEN_AT_ONCE))
    } catch (error) {
      log.warn({ err: error, runner }, 'events of deleted sessions are still there; it is tried again')
    }
  }
}

async function depsOf(env: Env, outlive: (work: Promise<unknown>) => void): Promise<Deps> {
  const { GATE, ASSETS } = env
  const store = await migratedStore(env)
  const hub = new WorkersHub(env, store)
  const { keys, identity } = await identityFor(env, store, outlive)
  const worker = platform(outlive)
  return {
    store,
    hub,
    line: new WorkersLine(env, store),
    records: hub,
    platform: worker,
    keys,
    identity,
    vault: await vaultOf(env),
    catalog: sharedCatalog(store),
    limiter: workersLimiter(env),
    settings: settingsOf(env),
    log,
    outbox: { nudge: waking(env, worker) },
    gate: GATE && (async (request) => (await GATE.limit({ key: request.headers.get('cf-connecting-ip') ?? 'unknown' })).success),
    assets: ASSETS && ((name) => asset(ASSETS, name)),
  }
}

async function asset(files: Fetcher, name: string): Promise<ReadableStream<Uint8Array> | undefined> {
  const response = await files.fetch(`https://assets.invalid/${name}`)
  if (response.status === 200 && response.body) return response.body
  await response.body?.cancel()
  return undefined
}
