/** Sessions as the router knows them: whose they are, and on which machine and in which directory they live, if they do by now. */
import { and, eq, isNull, sql } from 'drizzle-orm'
import { bindings, prompts, runEvents, runs, sessions } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'
import { sessionNotice } from './notices.ts'

export type SessionRow = typeof sessions.$inferSelect

export async function findSession(db: Db, tenant: string, id: string): Promise<SessionRow | undefined> {
  const [row] = await db.select().from(sessions).where(and(eq(sessions.id, id), eq(sessions.tenant, tenant))).limit(1)
  return row
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
  const [rows] = await store.batch([made, sessionNotice(db, sql`its.id = ${row.id}`, 'session.created', now)])
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
    .where(and(eq(runs.session, session), eq(runs.tenant, tenant), isNull(runs.endedAt)))
  return rows.map(({ id }) => id)
}

/**
 * Takes a session and what was said in it away, unless a run of it is alive; its runs stay for statistics. `idleSince`: only
 * if nothing ran since then. False: nothing was done.
 *
 * Events of runs that reached a machine are marked, so that nobody reads them from now on, and go with the next sweep of
 * whoever keeps them.
 */
export async function deleteSession(store: Store, tenant: string, id: string, now: number, idleSince?: number): Promise<boolean> {
  const { db } = store
  const idle = idleSince === undefined ? sql`TRUE` : sql`its.last_run_at < ${idleSince}`
  const its = sql`its.id = ${id} AND its.tenant = ${tenant} AND ${idle}
    AND NOT EXISTS (SELECT 1 FROM ${runs} AS live WHERE live.session = its.id AND live.ended_at IS NULL)`
  const free = sql`EXISTS (SELECT 1 FROM ${sessions} AS its WHERE ${its})`
  const ofIts = and(eq(runs.session, id), eq(runs.tenant, tenant), free)
  const unkept = sql`run IN (SELECT id FROM ${runs} WHERE session = ${id} AND tenant = ${tenant} AND runner IS NULL) AND ${free}`
  const [, , , , , gone] = await store.batch([
    sessionNotice(db, its, 'session.deleted', now),
    db.delete(prompts).where(and(eq(prompts.session, id), free)),
    db.delete(bindings).where(and(eq(bindings.session, id), eq(bindings.tenant, tenant), free)),
    db.run(sql`DELETE FROM ${runEvents} WHERE ${unkept}`) as Statement,
    db.update(runs).set({ metadata: null, prunedAt: sql`coalesce(${runs.prunedAt}, ${now})`, eventBytes: sql`CASE WHEN runner IS NULL THEN 0 ELSE event_bytes END` }).where(ofIts),
    db.delete(sessions).where(and(eq(sessions.id, id), free)).returning({ id: sessions.id }),
  ])
  return (gone as unknown[]).length === 1
}
