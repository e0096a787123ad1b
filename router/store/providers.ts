/** Accounts that pay for tokens. Every query names the tenant; a key is here only sealed. */
import { asc, eq } from 'drizzle-orm'
import { providers } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export type ProviderRow = typeof providers.$inferSelect

/** All of a tenant by id, disabled ones included. */
export function readProviders(db: Db, tenant: string): Promise<ProviderRow[]> {
  return db.select().from(providers).where(eq(providers.tenant, tenant)).orderBy(asc(providers.id))
}
