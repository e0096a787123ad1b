/**
 * Accounts that pay for tokens. Every query names the tenant; a key is here only sealed.
 *
 * A change is one batch with its audit row, and all of it or nothing: who changed a row that is not any more as it was
 * read hears so and has to look again.
 */
import { and, asc, eq, gt, gte, isNotNull, lt, ne, or, sql } from 'drizzle-orm'
import { bindings, counters, providerHealth, providers, settings } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'
import { resetStatements } from './provider-health.ts'

export type ProviderRow = typeof providers.$inferSelect
export type ProviderChange = Partial<Omit<ProviderRow, 'tenant' | 'id' | 'createdAt' | 'updatedAt'>>

/** All of a tenant by id, disabled ones included. */
export function readProviders(db: Db, tenant: string): Promise<ProviderRow[]> {
  return db.select().from(providers).where(eq(providers.tenant, tenant)).orderBy(asc(providers.id))
}

export async function findProvider(db: Db, tenant: string, id: string): Promise<ProviderRow | undefined> {
  const [row] = await db.select().from(providers).where(which(tenant, id)).limit(1)
  return row
}

/** False: there is one of that id, and nothing was written. */
export async function insertProvider(store: Store, row: ProviderRow, audit: Statement): Promise<boolean> {
  return allOrNothing(store, [store.db.insert(providers).values(row), audit])
}

/**
 * Undefined: it was changed or deleted since `was` was read, and nothing was written. A new version (another key or base
 * URL) and being enabled again close its breakers: an admin has acted.
 */
export async function updateProvider(store: Store, was: ProviderRow, change: ProviderChange, now: number, audit: Statement): Promise<ProviderRow | undefined> {
  const { db } = store
  const row = { ...was, ...change, updatedAt: Math.max(now, was.updatedAt + 1) }
  const acted = row.version > was.version || (row.enabled && !was.enabled)
  const changed = db.update(providers).set({ ...change, updatedAt: row.updatedAt }).where(which(was.tenant, was.id))
  const reset = acted ? resetStatements(db, was.tenant, was.id, now) : []
  return (await allOrNothing(store, [unchanged(db, was), changed, ...reset, audit])) ? row : undefined
}

/** With what was counted of it and the sessions that are bound to it. False: it was changed or deleted meanwhile. */
export async function deleteProvider(store: Store, was: ProviderRow, audit: Statement): Promise<boolean> {
  const { db } = store
  const { tenant, id } = was
  return allOrNothing(store, [
    unchanged(db, was),
    db.delete(providers).where(which(tenant, id)),
    db.delete(providerHealth).where(and(eq(providerHealth.tenant, tenant), eq(providerHealth.provider, id))),
    db.delete(bindings).where(and(eq(bindings.tenant, tenant), eq(bindings.provider, id))),
    // Turns of sets of providers that this one was in; the others begin anew. '0' follows '/'.
    db.delete(counters).where(and(gte(counters.id, `choice/${tenant}/`), lt(counters.id, `choice/${tenant}0`))),
    audit,
  ])
}

/** How many keys are sealed by another key than this one. */
export async function countSealedByOthers(db: Db, kid: string): Promise<number> {
  const [row] = await db.select({ n: sql<number>`count(*)` }).from(providers).where(and(isNotNull(providers.sealedKey), ne(providers.sealedBy, kid)))
  return row?.n ?? 0
}

/** Rows whose key another key of the vault than `kid` has sealed, of all tenants. `after`: where the last page ended. */
export function sealedByOthers(db: Db, kid: string, after: Pick<ProviderRow, 'tenant' | 'id'> | undefined, limit: number): Promise<ProviderRow[]> {
  return db
    .select()
    .from(providers)
    .where(
      and(
        isNotNull(providers.sealedKey),
        ne(providers.sealedBy, kid),
        after && or(gt(providers.tenant, after.tenant), and(eq(providers.tenant, after.tenant), gt(providers.id, after.id))),
      ),
    )
    .orderBy(asc(providers.tenant), asc(providers.id))
    .limit(limit)
}

/** The same key, sealed anew. False: it is another one by now. */
export async function swapSeal(db: Db, was: ProviderRow, sealedKey: string, sealedBy: string): Promise<boolean> {
  const same = and(which(was.tenant, was.id), eq(providers.version, was.version), eq(providers.sealedKey, was.sealedKey ?? ''))
  const rows = await db.update(providers).set({ sealedKey, sealedBy }).where(same).returning({ id: providers.id })
  return rows.length === 1
}

const which = (tenant: string, id: string) => and(eq(providers.tenant, tenant), eq(providers.id, id))

/** Breaks the batch that it begins, by a NOT NULL that is violated, unless the row is as it was read. D1 has no other way out. */
function unchanged(db: Db, was: ProviderRow): Statement {
  return db.run(sql`
    INSERT INTO ${settings} (name, value, updated_at)
    SELECT 'providers.unchanged', NULL, 0
    WHERE NOT EXISTS (SELECT 1 FROM ${providers} WHERE tenant = ${was.tenant} AND id = ${was.id} AND updated_at = ${was.updatedAt})`) as Statement
}

async function allOrNothing(store: Store, statements: Statement[]): Promise<boolean> {
  try {
    await store.batch(statements)
    return true
  } catch (error) {
    if (isConstraint(error)) return false
    throw error
  }
}

/** libSQL has a code for it, D1 only words; drizzle wraps either. */
function isConstraint(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) if (/constraint failed/i.test(at.message)) return true
  return false
}
