/** The record of the tokens we minted: who has one and until when, never the token itself. */
import { eq } from 'drizzle-orm'
import { tokens } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export type TokenRow = typeof tokens.$inferSelect

export async function insertToken(db: Db, row: Omit<TokenRow, 'revokedAt'>): Promise<void> {
  await db.insert(tokens).values(row)
}

export async function findToken(db: Db, jti: string): Promise<Pick<TokenRow, 'tenant' | 'kind' | 'revokedAt'> | undefined> {
  const [row] = await db
    .select({ tenant: tokens.tenant, kind: tokens.kind, revokedAt: tokens.revokedAt })
    .from(tokens)
    .where(eq(tokens.jti, jti))
    .limit(1)
  return row
}
