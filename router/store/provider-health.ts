/** Breakers and counts of providers: every move is one statement, so that of many replicas one makes it. */
import { eq } from 'drizzle-orm'
import { providerHealth } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export type HealthRow = typeof providerHealth.$inferSelect

export function readHealth(db: Db, tenant: string): Promise<HealthRow[]> {
  return db.select().from(providerHealth).where(eq(providerHealth.tenant, tenant))
}
