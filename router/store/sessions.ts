/** Sessions as the router knows them: whose they are, and on which machine and in which directory they live, if they do by now. */
import { and, eq, isNull, sql } from 'drizzle-orm'
import { runs, sessions } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

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
