/** Submissions by key: which run a key led to, for a day. */
import { and, eq, lt, sql } from 'drizzle-orm'
import { idempotency } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'
import { prepared } from './prepared.ts'

export const IDEMPOTENCY_TTL_MS = 24 * 3_600_000

const claimOf = prepared((db) =>
  db
    .select({ run: idempotency.run, hash: idempotency.hash, expiresAt: idempotency.expiresAt })
    .from(idempotency)
    .where(and(eq(idempotency.tenant, sql.placeholder('tenant')), eq(idempotency.key, sql.placeholder('key'))))
    .limit(1)
    .prepare(),
)

export async function findClaim(db: Db, tenant: string, key: string, now: number): Promise<{ run: string; hash: string } | undefined> {
  const [row] = await claimOf(db).all({ tenant, key })
  if (!row) return undefined
  if (row.expiresAt > now) return row
  await db.delete(idempotency).where(and(eq(idempotency.tenant, tenant), eq(idempotency.key, key), lt(idempotency.expiresAt, now + 1)))
  return undefined
}

export async function pruneClaims(db: Db, now: number): Promise<void> {
  await db.delete(idempotency).where(lt(idempotency.expiresAt, now))
}
