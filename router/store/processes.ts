/** Runs that hold a slot. */
import { and, asc, eq, inArray } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import type { Db, RunRow } from '../ports.ts'

/** The oldest first, at most `limit`. */
export function runsUnderWay(db: Db, tenant: string, limit: number): Promise<RunRow[]> {
  return db
    .select()
    .from(runs)
    .where(and(eq(runs.tenant, tenant), inArray(runs.state, ['leased', 'running'])))
    .orderBy(asc(runs.id))
    .limit(limit)
}
