/** Sessions as the router knows them: whose they are, and on which machine and in which directory they live. */
import { and, eq } from 'drizzle-orm'
import { sessions } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

export type SessionRow = typeof sessions.$inferSelect

export async function findSession(db: Db, tenant: string, id: string): Promise<SessionRow | undefined> {
  const [row] = await db.select().from(sessions).where(and(eq(sessions.id, id), eq(sessions.tenant, tenant))).limit(1)
  return row
}
