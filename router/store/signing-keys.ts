/** The record of the keys that sign our tokens. The host's own key has a row only so that it can be retired. */
import { and, desc, eq, isNull, or, sql } from 'drizzle-orm'
import { signingKeys } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'

export type SigningKeyRow = typeof signingKeys.$inferSelect

/** How many verify at the same time: the one that signs, and the one whose tokens are still about. */
export const MAX_LIVE_KEYS = 2

/** The host's own key counts as older than every other. */
const newestFirst = [desc(sql`${signingKeys.sealed} IS NOT NULL`), desc(signingKeys.createdAt), desc(signingKeys.kid)]

/** Those that are live, the newest first, and what is known of the host's own. */
export function liveSigningKeys(db: Db): Promise<SigningKeyRow[]> {
  return db
    .select()
    .from(signingKeys)
    .where(or(isNull(signingKeys.retiredAt), isNull(signingKeys.sealed)))
    .orderBy(...newestFirst)
}

export async function findSigningKey(db: Db, kid: string): Promise<SigningKeyRow | undefined> {
  const [row] = await db.select().from(signingKeys).where(eq(signingKeys.kid, kid)).limit(1)
  return row
}

/** The newest first; `after` is the `createdAt` and `kid` where the last page ended. */
export function pageOfSigningKeys(db: Db, after: string | undefined, limit: number): Promise<SigningKeyRow[]> {
  const behind = after === undefined ? undefined : sql`(${signingKeys.createdAt}, ${signingKeys.kid}) < (SELECT created_at, kid FROM ${signingKeys} WHERE kid = ${after})`
  return db
    .select()
    .from(signingKeys)
    .where(behind)
    .orderBy(desc(signingKeys.createdAt), desc(signingKeys.kid))
    .limit(limit)
}

/** Takes a new key and retires all but the newest two, in one batch. */
export function rotation(db: Db, fresh: { kid: string; sealed: string }, rootKid: string, now: number): Statement[] {
  return [
    rowOfRoot(db, rootKid),
    db.insert(signingKeys).values({ ...fresh, createdAt: now }),
    db
      .update(signingKeys)
      .set({ retiredAt: now })
      .where(
        and(
          isNull(signingKeys.retiredAt),
          sql`${signingKeys.kid} NOT IN (SELECT kid FROM ${signingKeys} WHERE retired_at IS NULL ORDER BY sealed IS NOT NULL DESC, created_at DESC, kid DESC LIMIT ${MAX_LIVE_KEYS})`,
        ),
      ),
  ]
}

/** Retires a key, unless it is the last that is live. */
export function retirement(db: Db, kid: string, rootKid: string, now: number): Statement[] {
  return [
    rowOfRoot(db, rootKid),
    db
      .update(signingKeys)
      .set({ retiredAt: now })
      .where(and(eq(signingKeys.kid, kid), isNull(signingKeys.retiredAt), sql`(SELECT count(*) FROM ${signingKeys} WHERE retired_at IS NULL) > 1`)),
  ]
}

/** Changes nothing when it is no longer sealed as it `was`. */
export async function swapSealedKey(db: Db, kid: string, was: string, sealed: string): Promise<void> {
  await db
    .update(signingKeys)
    .set({ sealed })
    .where(and(eq(signingKeys.kid, kid), eq(signingKeys.sealed, was)))
}

/** 0: nobody knows when the host made it, and it was before all others. */
function rowOfRoot(db: Db, kid: string): Statement {
  return db.insert(signingKeys).values({ kid, sealed: null, createdAt: 0 }).onConflictDoNothing()
}
