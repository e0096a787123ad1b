/** The record of trusted issuers. Which of them are asked is in standings.ts. */
import { and, asc, eq, gt } from 'drizzle-orm'
import { issuers } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'

export type IssuerRow = typeof issuers.$inferSelect

/** Fails the batch when there is one of this id, or of this URL for the same audience. */
export function issuerInsertion(db: Db, row: IssuerRow): Statement {
  return db.insert(issuers).values(row)
}

export async function findIssuer(db: Db, id: string): Promise<IssuerRow | undefined> {
  const [row] = await db.select().from(issuers).where(eq(issuers.id, id)).limit(1)
  return row
}

/** By id; `after` is the id where the last page ended. */
export function listIssuers(db: Db, tenant: string, after: string | undefined, limit: number): Promise<IssuerRow[]> {
  return db
    .select()
    .from(issuers)
    .where(and(eq(issuers.tenant, tenant), after === undefined ? undefined : gt(issuers.id, after)))
    .orderBy(asc(issuers.id))
    .limit(limit)
}

export function issuerChange(db: Db, id: string, change: Pick<IssuerRow, 'mapping' | 'enabled'>): Statement {
  return db.update(issuers).set(change).where(eq(issuers.id, id))
}

export function issuerDeletion(db: Db, id: string): Statement {
  return db.delete(issuers).where(eq(issuers.id, id))
}
