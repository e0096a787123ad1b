/** One-time secrets of enrolment: the tokens an admin hands out, and the ids of assertions that were used. */
import { and, eq, gt, isNull, lt } from 'drizzle-orm'
import { assertions, enrolments } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export interface Enrolment {
  readonly hash: string
  readonly tenant: string
  readonly pool: string
  readonly createdAt: number
  readonly expiresAt: number
}

export async function insertEnrolment(db: Db, enrolment: Enrolment): Promise<void> {
  await db.insert(enrolments).values(enrolment)
}

/** Uses an enrolment token up. Of any number of callers one gets it; the others, and whoever comes too late, get nothing. */
export async function takeEnrolment(
  db: Db,
  wanted: { hash: string; pool: string | undefined },
  now: number,
): Promise<Pick<Enrolment, 'tenant' | 'pool' | 'createdAt'> | undefined> {
  const [row] = await db
    .update(enrolments)
    .set({ usedAt: now })
    .where(
      and(
        eq(enrolments.hash, wanted.hash),
        isNull(enrolments.usedAt),
        gt(enrolments.expiresAt, now),
        wanted.pool === undefined ? undefined : eq(enrolments.pool, wanted.pool),
      ),
    )
    .returning({ tenant: enrolments.tenant, pool: enrolments.pool, createdAt: enrolments.createdAt })
  return row
}

/** False when the id was used before. */
export async function takeAssertion(db: Db, id: string, expiresAt: number): Promise<boolean> {
  const taken = await db
    .insert(assertions)
    .values({ jti: id, expiresAt })
    .onConflictDoNothing()
    .returning({ jti: assertions.jti })
  return taken.length === 1
}

export async function pruneAssertions(db: Db, now: number): Promise<void> {
  await db.delete(assertions).where(lt(assertions.expiresAt, now))
}
