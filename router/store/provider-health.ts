/** Breakers and counts of providers: every move is one statement, so that of many replicas one makes it. */
import { and, eq, ne } from 'drizzle-orm'
import { providerHealth } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'

export type HealthRow = typeof providerHealth.$inferSelect

export function readHealth(db: Db, tenant: string): Promise<HealthRow[]> {
  return db.select().from(providerHealth).where(eq(providerHealth.tenant, tenant))
}

/** Closes the breakers of a provider, also those that wait for an admin. What was counted of it stays. */
export async function resetHealth(store: Store, tenant: string, provider: string, now: number, audit: Statement): Promise<void> {
  await store.batch([...resetStatements(store.db, tenant, provider, now), audit])
}

export function resetStatements(db: Db, tenant: string, provider: string, now: number): Statement[] {
  const its = and(eq(providerHealth.tenant, tenant), eq(providerHealth.provider, provider))
  return [
    db.delete(providerHealth).where(and(its, ne(providerHealth.model, ''))),
    db.update(providerHealth).set({ state: 'closed', failures: 0, openUntil: null, probeUntil: null, reason: null, updatedAt: now }).where(its),
  ]
}
