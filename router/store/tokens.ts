/** The record of the tokens we minted: who has one and until when, never the token itself. */
import { and, count, desc, eq, isNull, lt, type SQL } from 'drizzle-orm'
import { tenants, tokens } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'

export type TokenRow = typeof tokens.$inferSelect

export function tokenInsertion(db: Db, row: Omit<TokenRow, 'revokedAt'>): Statement {
  return db.insert(tokens).values(row)
}

export async function findToken(db: Db, jti: string): Promise<TokenRow | undefined> {
  const [row] = await db.select().from(tokens).where(eq(tokens.jti, jti)).limit(1)
  return row
}

export interface TokenFilter {
  readonly tenant: string
  readonly family?: string | undefined
}

/** The newest first; `after` is the id where the last page ended. */
export function listTokens(db: Db, filter: TokenFilter, after: string | undefined, limit: number): Promise<TokenRow[]> {
  return db
    .select()
    .from(tokens)
    .where(and(of(filter), after === undefined ? undefined : lt(tokens.jti, after)))
    .orderBy(desc(tokens.jti))
    .limit(limit)
}

export function tokenRevocation(db: Db, jti: string, now: number): Statement {
  return db
    .update(tokens)
    .set({ revokedAt: now })
    .where(and(eq(tokens.jti, jti), isNull(tokens.revokedAt)))
}

/** All of a family, or of a tenant, that were not revoked before. */
export function tokensRevocation(db: Db, filter: TokenFilter, now: number): Statement {
  return db
    .update(tokens)
    .set({ revokedAt: now })
    .where(and(of(filter), isNull(tokens.revokedAt)))
}

/** How many that would be. */
export async function countUnrevoked(db: Db, filter: TokenFilter): Promise<number> {
  const [row] = await db
    .select({ n: count() })
    .from(tokens)
    .where(and(of(filter), isNull(tokens.revokedAt)))
  return row?.n ?? 0
}

/** Everything of a tenant that was issued until now, by us or by anybody else. Its row has to be there. */
export function tenantRevocation(db: Db, tenant: string, now: number): Statement {
  // What was made in this very millisecond is older than the wish.
  return db
    .update(tenants)
    .set({ revokedBefore: now + 1 })
    .where(eq(tenants.id, tenant))
}

function of({ tenant, family }: TokenFilter): SQL | undefined {
  return and(eq(tokens.tenant, tenant), family === undefined ? undefined : eq(tokens.family, family))
}
