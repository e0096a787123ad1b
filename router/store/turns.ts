/** Which sessions have a turn under way, for a line that is not told when one is over. */
import { and, inArray, sql } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'

/** Of these. As JSON, since a query takes only so many parameters (D1: 100). */
export async function busyAmong(db: Db, sessions: readonly string[]): Promise<Set<string>> {
  const rows = await db
    .selectDistinct({ session: runs.session })
    .from(runs)
    .where(and(sql`${runs.session} IN (SELECT value FROM json_each(${JSON.stringify(sessions)}))`, inArray(runs.state, ['offered', 'leased', 'running'])))
  return new Set(rows.map(({ session }) => session))
}
