/**
 * The row of a run. Every move is one compare-and-set on (state, fence): who loses it has been overtaken and must stop.
 */
import { and, desc, eq, inArray, isNull, lt, sql } from 'drizzle-orm'
import { runs, sessions } from '../../drizzle/schema.ts'
import type { PublicStatus } from '../core/run-state.ts'
import { statesOf } from '../core/run-state.ts'
import type { Db, Statement, Store } from '../ports.ts'

export type RunRow = typeof runs.$inferSelect
export type NewRun = Pick<RunRow, 'id' | 'tenant' | 'subject' | 'session' | 'pool' | 'runner' | 'model' | 'metadata' | 'createdAt'>

/** False when the session has a turn in progress. */
export async function insertOffered(db: Db, run: NewRun): Promise<boolean> {
  const rows = await db.insert(runs).values({ ...run, state: 'offered', fence: 1 }).onConflictDoNothing().returning({ id: runs.id })
  return rows.length === 1
}

const offered = (id: string, fence: number) => and(eq(runs.id, id), eq(runs.fence, fence), eq(runs.state, 'offered'))

/** Another runner under the next fence; whatever the first one says of this run is void from here on. */
export async function reoffer(db: Db, id: string, fence: number, runner: string): Promise<boolean> {
  const rows = await db.update(runs).set({ runner, fence: fence + 1 }).where(offered(id, fence)).returning({ id: runs.id })
  return rows.length === 1
}

/** A run that nobody accepted was answered with a fault and leaves nothing behind. */
export async function dropRefused(db: Db, id: string, fence: number): Promise<void> {
  await db.delete(runs).where(offered(id, fence))
}

/** The lease and the session that it binds to this runner become durable together. False: overtaken. */
export async function lease(store: Store, id: string, fence: number, cwd: string, now: number): Promise<boolean> {
  const { db } = store
  const moved = db.update(runs).set({ state: 'leased', startedAt: now }).where(offered(id, fence)).returning({ id: runs.id })
  const bound = db.run(sql`
    INSERT INTO ${sessions} (id, tenant, runner, cwd, created_at, last_run_at)
    SELECT session, tenant, runner, ${cwd}, ${now}, ${now} FROM ${runs} WHERE id = ${id} AND fence = ${fence} AND state = 'leased'
    ON CONFLICT (id) DO UPDATE SET last_run_at = excluded.last_run_at`)
  const [rows] = await store.batch([moved, bound as Statement])
  return (rows as unknown[]).length === 1
}

/** Nobody outside knows a run that was only offered, and nothing of it has started. */
export async function dropAllOffered(db: Db): Promise<void> {
  await db.delete(runs).where(eq(runs.state, 'offered'))
}

export async function findRun(db: Db, tenant: string, id: string): Promise<RunRow | undefined> {
  const [row] = await db.select().from(runs).where(and(eq(runs.id, id), eq(runs.tenant, tenant))).limit(1)
  return row
}

export type RunFilter = { status: PublicStatus | undefined; session: string | undefined; before: string | undefined; limit: number }

/** Newest first; run ids sort by age, so the last one seen is the cursor. */
export async function listRuns(db: Db, tenant: string, filter: RunFilter): Promise<RunRow[]> {
  return db
    .select()
    .from(runs)
    .where(
      and(
        eq(runs.tenant, tenant),
        filter.status ? inArray(runs.state, statesOf(filter.status)) : undefined,
        filter.session ? eq(runs.session, filter.session) : undefined,
        filter.before ? lt(runs.id, filter.before) : undefined,
      ),
    )
    .orderBy(desc(runs.id))
    .limit(filter.limit)
}

/** The wish to end a run; it decides the ending. False: the run has ended. */
export async function requestCancel(db: Db, tenant: string, id: string, now: number): Promise<boolean> {
  const rows = await db
    .update(runs)
    .set({ cancelRequestedAt: sql`coalesce(${runs.cancelRequestedAt}, ${now})` })
    .where(and(eq(runs.id, id), eq(runs.tenant, tenant), isNull(runs.endedAt)))
    .returning({ id: runs.id })
  return rows.length === 1
}

/** What a runner must bring back after the router restarted. */
export async function liveRunsOf(db: Db, runner: string): Promise<RunRow[]> {
  return db.select().from(runs).where(and(eq(runs.runner, runner), isNull(runs.endedAt), inArray(runs.state, ['leased', 'running'])))
}

/** Runners that hold live runs, connected or not. */
export async function runnersWithLiveRuns(db: Db): Promise<string[]> {
  const rows = await db.selectDistinct({ runner: runs.runner }).from(runs).where(isNull(runs.endedAt))
  return rows.flatMap((r) => (r.runner === null ? [] : [r.runner]))
}
