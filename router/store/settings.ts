/** Settings of the router as a whole, by name. */
import { eq } from 'drizzle-orm'
import { settings } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'

/** Undefined: it was never set. */
export async function readSetting(db: Db, name: string): Promise<unknown> {
  const [row] = await db.select().from(settings).where(eq(settings.name, name)).limit(1)
  return row?.value
}

export async function writeSetting(db: Db, name: string, value: unknown, now: number): Promise<void> {
  await settingStatement(db, name, value, now)
}

/** The same for a batch. */
export function settingStatement(db: Db, name: string, value: unknown, now: number): Statement & PromiseLike<unknown> {
  return db
    .insert(settings)
    .values({ name, value, updatedAt: now })
    .onConflictDoUpdate({ target: settings.name, set: { value, updatedAt: now } })
}
