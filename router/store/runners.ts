/** Enrolled machines. What is online now is the hub's knowledge; a column has a hint of it. */
import { and, eq, gte, isNotNull, isNull, or, sql } from 'drizzle-orm'
import { runners, tenants } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'
import { prepared } from './prepared.ts'

export type RunnerRow = typeof runners.$inferSelect

export async function insertRunner(db: Db, row: Omit<RunnerRow, 'lastSeenAt' | 'online' | 'drainedAt' | 'revokedAt'>): Promise<void> {
  await db.insert(runners).values(row)
}

const oneRunner = prepared((db) => db.select().from(runners).where(eq(runners.id, sql.placeholder('id'))).limit(1).prepare())

/** Revoked ones included: the caller has to look at `revokedAt`. */
export async function findRunner(db: Db, id: string): Promise<RunnerRow | undefined> {
  const [row] = await oneRunner(db).all({ id })
  return row
}

/** All runners of a tenant, the oldest first. */
export function listRunners(db: Db, tenant: string): Promise<RunnerRow[]> {
  return db.select().from(runners).where(eq(runners.tenant, tenant)).orderBy(runners.id)
}

/** What admins want of a runner. */
export type RunnerMark = Pick<RunnerRow, 'id' | 'drainedAt' | 'revokedAt'>

/** Those of a disabled tenant are out as if revoked. */
const revokedAt = sql<number | null>`coalesce(${runners.revokedAt}, ${tenants.disabledAt})`
const standings = (db: Db) =>
  db.select({ id: runners.id, drainedAt: runners.drainedAt, revokedAt }).from(runners).leftJoin(tenants, eq(tenants.id, runners.tenant))

const oneStanding = prepared((db) => standings(db).where(eq(runners.id, sql.placeholder('id'))).prepare())

/** Undefined: there is no such runner. */
export async function standingOf(db: Db, id: string): Promise<RunnerMark | undefined> {
  const [row] = await oneStanding(db).all({ id })
  return row
}

/**
 * A revoked runner finds no way in again, so its mark is only for a connection that it still had. Whoever looks does so every
 * few seconds, and within this the token of such a connection is over too.
 */
export const REVOKED_MS = 3_600_000

const marked = prepared((db) => {
  const since = sql.placeholder('since')
  // Found by three indexes: together, in one condition, they would be a look at every runner.
  const touched = sql`(SELECT id FROM runners WHERE drained_at IS NOT NULL
    UNION ALL SELECT id FROM runners WHERE revoked_at >= ${since}
    UNION ALL SELECT id FROM runners WHERE tenant IN (SELECT id FROM tenants WHERE disabled_at >= ${since}))`
  return standings(db)
    .where(and(sql`${runners.id} IN ${touched}`, or(and(isNotNull(runners.drainedAt), isNull(revokedAt)), gte(revokedAt, since))))
    .prepare()
})

/** Those that admins want something of. Not asked by ids: all that are connected would be thousands. */
export function markedRunners(db: Db, now: number): Promise<RunnerMark[]> {
  return marked(db).all({ since: now - REVOKED_MS })
}

/** It came, with this to offer, or left. */
export function touchRunner(db: Db, id: string, online: RunnerRow['online'], now: number) {
  return db.update(runners).set({ lastSeenAt: now, online }).where(eq(runners.id, id))
}
