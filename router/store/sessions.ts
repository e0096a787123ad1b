/** Sessions as the router knows them: whose they are, and on which machine and in which directory they live, if they do by now. */
import { and, eq, isNull, sql, type SQL } from 'drizzle-orm'
import { bindings, prompts, runEvents, runs, sessions } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'
import { silenceSessions } from './deliveries.ts'
import { sessionNotice } from './notices.ts'
import { prepared } from './prepared.ts'

export type SessionRow = typeof sessions.$inferSelect

const wanted = { id: sql.placeholder('id'), tenant: sql.placeholder('tenant') }
const byId = prepared((db) => db.select().from(sessions).where(and(eq(sessions.id, wanted.id), eq(sessions.tenant, wanted.tenant))).limit(1).prepare())
const byCliId = prepared((db) =>
  db
    .select()
    .from(sessions)
    .where(and(eq(sessions.cliId, wanted.id), eq(sessions.tenant, wanted.tenant)))
    .orderBy(sessions.createdAt)
    .limit(1)
    .prepare(),
)

/** By its id, or by that which the CLI has for it and names in every line. Our own goes first, then the oldest: a runner may lie. */
export async function findSession(db: Db, tenant: string, id: string): Promise<SessionRow | undefined> {
  const [row] = await byId(db).all({ id, tenant })
  if (row) return row
  const [named] = await byCliId(db).all({ id, tenant })
  return named
}

/** A run that was to open it and has no row by then never will. */
const OPENER_MS = 60_000

/** A prepared session can be opened by one run only. False: another one is about to, or has. */
export async function claimOpening(db: Db, session: string, run: string, now: number): Promise<boolean> {
  const openerIsGone = sql`NOT EXISTS (SELECT 1 FROM ${runs} WHERE id = ${sessions}.opener AND ended_at IS NULL)`
  const free = sql`(opener IS NULL OR (opener_at < ${now - OPENER_MS} AND ${openerIsGone})
    OR EXISTS (SELECT 1 FROM ${runs} WHERE id = ${sessions}.opener AND ended_at IS NOT NULL))`
  const rows = await db
    .update(sessions)
    .set({ opener: run, openerAt: now })
    .where(and(eq(sessions.id, session), isNull(sessions.runner), free))
    .returning({ id: sessions.id })
  return rows.length === 1
}

/** The run that was to open it did not come to be. */
export async function yieldOpening(db: Db, session: string, run: string): Promise<void> {
  await db.update(sessions).set({ opener: null, openerAt: null }).where(and(eq(sessions.id, session), eq(sessions.opener, run), isNull(sessions.runner)))
}

export type NewSession = Pick<SessionRow, 'id' | 'tenant' | 'cwd' | 'pool' | 'title' | 'model' | 'metadata'>

/** A session before its first run, and the word that it is there. */
export async function prepareSession(store: Store, row: NewSession, now: number): Promise<SessionRow> {
  const { db } = store
  const made = db.insert(sessions).values({ ...row, createdAt: now, updatedAt: now, lastRunAt: now }).returning()
  const [rows] = await store.batch([made, db.run(sessionNotice(sql`its.id = ${row.id}`, 'session.created', now)) as Statement])
  return (rows as [SessionRow])[0]
}

export type SessionChange = Partial<Pick<SessionRow, 'title' | 'metadata' | 'status' | 'model'>>

/** Undefined: there is no such session. */
export async function updateSession(db: Db, tenant: string, id: string, change: SessionChange, now: number): Promise<SessionRow | undefined> {
  const [row] = await db
    .update(sessions)
    .set({ ...change, updatedAt: now })
    .where(and(eq(sessions.id, id), eq(sessions.tenant, tenant)))
    .returning()
  return row
}

/** Ids of its runs that have not ended. */
export async function liveRunsIn(db: Db, tenant: string, session: string): Promise<string[]> {
  const rows = await db
    .select({ id: runs.id })
    .from(runs)
    .where(and(eq(runs.session, session), sql`+${runs.tenant} = ${tenant}`, isNull(runs.endedAt)))
  return rows.map(({ id }) => id)
}

/**
 * Takes sessions and what was said in them away, but for those with a run that is alive or about to be their first; their
 * runs stay for statistics. `which` is the condition on `its` row. How many they were.
 *
 * Events of runs that reached a machine are marked, so that nobody reads them from now on, and go with the next sweep of
 * whoever keeps them.
 */
export async function deleteSessions(store: Store, which: SQL, now: number): Promise<number> {
  const { db } = store
  const live = sql`EXISTS (SELECT 1 FROM ${runs} AS live WHERE live.session = its.id AND live.ended_at IS NULL)`
  const opening = sql`(its.runner IS NULL AND its.opener IS NOT NULL AND its.opener_at >= ${now - OPENER_MS}
    AND NOT EXISTS (SELECT 1 FROM ${runs} AS first WHERE first.id = its.opener AND first.ended_at IS NOT NULL))`
  const free = sql`${which} AND NOT ${live} AND NOT ${opening}`
  // Nothing that this batch does but its last statement changes which ones they are.
  const theirs = sql`(SELECT its.id FROM ${sessions} AS its WHERE ${free})`
  const eventless = sql`(SELECT id FROM ${runs} WHERE session IN ${theirs} AND runner IS NULL)`
  const kept = { metadata: null, prunedAt: sql`coalesce(pruned_at, ${now})`, eventBytes: sql`CASE WHEN runner IS NULL THEN 0 ELSE event_bytes END` }
  const results = await store.batch([
    ...silenceSessions(db, theirs),
    db.run(sessionNotice(free, 'session.deleted', now)) as Statement,
    db.delete(prompts).where(sql`${prompts.session} IN ${theirs}`),
    db.delete(bindings).where(sql`${bindings.session} IN ${theirs}`),
    db.delete(runEvents).where(sql`${runEvents.run} IN ${eventless}`),
    db.update(runs).set(kept).where(sql`${runs.session} IN ${theirs}`),
    db.delete(sessions).where(sql`${sessions.id} IN ${theirs}`).returning({ id: sessions.id }),
  ])
  return (results.at(-1) as unknown[]).length
}

export const isSession = (tenant: string, id: string): SQL => sql`its.id = ${id} AND its.tenant = ${tenant}`
