/** Tenants come into being with their first token, or when an operator makes them. */
import { eq } from 'drizzle-orm'
import { tenants } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export type TenantRow = typeof tenants.$inferSelect

export async function ensureTenant(db: Db, id: string, now: number): Promise<void> {
  await db.insert(tenants).values({ id, createdAt: now }).onConflictDoNothing()
}

export async function readTenant(db: Db, id: string): Promise<TenantRow | undefined> {
  const [row] = await db.select().from(tenants).where(eq(tenants.id, id)).limit(1)
  return row
}
