/** Keys and passwords of older servers. The hash stays here: whoever lists them sees who and what for. */
import { and, desc, eq, lt } from 'drizzle-orm'
import { credentials } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'

type Row = typeof credentials.$inferSelect
/** Without its hash. */
export type CredentialRow = Omit<Row, 'hash'>

const { id, tenant, kind, subject, scopes, narrowing, createdAt, revokedAt } = credentials
const shown = { id, tenant, kind, subject, scopes, narrowing, createdAt, revokedAt }

/** Fails the batch when the same secret is registered. */
export function credentialInsertion(db: Db, row: Row): Statement {
  return db.insert(credentials).values(row)
}

export async function findCredential(db: Db, wanted: string): Promise<CredentialRow | undefined> {
  const [row] = await db.select(shown).from(credentials).where(eq(id, wanted)).limit(1)
  return row
}

/** The newest first; `after` is the id where the last page ended. */
export function listCredentials(db: Db, of: string, after: string | undefined, limit: number): Promise<CredentialRow[]> {
  return db
    .select(shown)
    .from(credentials)
    .where(and(eq(tenant, of), after === undefined ? undefined : lt(id, after)))
    .orderBy(desc(id))
    .limit(limit)
}

export function credentialDeletion(db: Db, which: string): Statement {
  return db.delete(credentials).where(eq(id, which))
}
