/** Tenants: nothing but a name so far. One exists from its first token on. */
import { tenants } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export async function ensureTenant(db: Db, id: string, now: number): Promise<void> {
  await db.insert(tenants).values({ id, createdAt: now }).onConflictDoNothing()
}
