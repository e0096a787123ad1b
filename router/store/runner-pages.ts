/** Runners and pools as an admin sees and changes them. */
import { and, asc, count, eq, gt, isNull } from 'drizzle-orm'
import { enrolments, runners, runs } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'
import type { RunnerRow } from './runners.ts'

export interface RunnerFilter {
  readonly pool: string | undefined
  readonly after: string | undefined
  readonly limit: number
}

/** By id, which is by age; revoked ones included. */
export function pageOfRunners(db: Db, tenant: string, { pool, after, limit }: RunnerFilter): Promise<RunnerRow[]> {
  return db
    .select()
    .from(runners)
    .where(
      and(
        eq(runners.tenant, tenant),
        pool === undefined ? undefined : eq(runners.pool, pool),
        after === undefined ? undefined : gt(runners.id, after),
      ),
    )
    .orderBy(asc(runners.id))
    .limit(limit)
}

export function markRunner(db: Db, id: string, marks: Partial<Pick<RunnerRow, 'drainedAt' | 'revokedAt' | 'online'>>): Statement {
  return db.update(runners).set(marks).where(eq(runners.id, id))
}

/** How many runners of each pool may connect. */
export function countRunners(db: Db, tenant: string): Promise<{ pool: string; n: number }[]> {
  return db
    .select({ pool: runners.pool, n: count() })
    .from(runners)
    .where(and(eq(runners.tenant, tenant), isNull(runners.revokedAt)))
    .groupBy(runners.pool)
}

/** Enrolment tokens of each pool that are still good. */
export function countEnrolments(db: Db, tenant: string, now: number): Promise<{ pool: string; n: number }[]> {
  return db
    .select({ pool: enrolments.pool, n: count() })
    .from(enrolments)
    .where(and(eq(enrolments.tenant, tenant), isNull(enrolments.usedAt), gt(enrolments.expiresAt, now)))
    .groupBy(enrolments.pool)
}

/** Runs of each pool that wait. */
export function countWaiting(db: Db, tenant: string): Promise<{ pool: string; n: number }[]> {
  return db
    .select({ pool: runs.pool, n: count() })
    .from(runs)
    .where(and(eq(runs.state, 'queued'), eq(runs.tenant, tenant)))
    .groupBy(runs.pool)
}
