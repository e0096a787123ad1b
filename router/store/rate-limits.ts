/**
 * Rate limits that several processes share, one timestamp each (core/gcra). The clock is the database's own, so that
 * processes whose clocks differ give each other nothing; `now` stands in for it in tests.
 */
import { eq, lt, sql, type SQL } from 'drizzle-orm'
import { rateLimits } from '../../drizzle/schema.ts'
import type { Rate } from '../../shared/tenant-settings.ts'
import { burstMs, intervalMs } from '../core/gcra.ts'
import type { Db } from '../ports.ts'

/** Whole milliseconds, the same throughout a statement. */
export const databaseNow: SQL = sql`CAST(round(unixepoch('subsec') * 1000) AS INTEGER)`

export type Now = SQL | number

/** Where a limit stands, by the clock of the database. */
export interface Standing {
  readonly tat: number
  readonly now: number
}

/**
 * Takes `n` requests of a limit, all of them or none: one statement, so whoever else takes at this moment comes before or
 * after it. Undefined: there is no room for so many. `n` is not more than the burst.
 */
export async function takeShared(
  db: Db,
  id: string,
  rate: Rate,
  n: number,
  now: Now = databaseNow,
): Promise<Standing | undefined> {
  const [row] = await db.all<Standing>(sql`
    INSERT INTO ${rateLimits} (id, tat) SELECT ${id}, ${now} + ${n * intervalMs(rate)} WHERE TRUE
    ON CONFLICT (id) DO UPDATE SET tat = max(tat, ${now}) + ${n * intervalMs(rate)}
      WHERE max(tat, ${now}) + ${n * intervalMs(rate)} <= ${now} + ${burstMs(rate)}
    RETURNING tat, ${now} AS now`)
  return row
}

/** Gives back what was taken and not used. Nobody gets more of it than if it had never been taken. */
export async function giveBackShared(db: Db, id: string, rate: Rate, n: number): Promise<void> {
  await db.update(rateLimits).set({ tat: sql`tat - ${n * intervalMs(rate)}` }).where(eq(rateLimits.id, id))
}

/** A clock that was set back would keep everybody out until it is where it was: no further ahead than a full burst is right. */
export async function standingOf(db: Db, id: string, rate: Rate, now: Now = databaseNow): Promise<Standing> {
  const select = sql`SELECT (SELECT tat FROM ${rateLimits} WHERE id = ${id}) AS tat, ${now} AS now`
  const [row] = await db.all<{ tat: number | null; now: number }>(select)
  const { tat, now: at } = row ?? { tat: null, now: 0 }
  const limit = at + burstMs(rate)
  if (tat === null || tat <= limit) return { tat: tat ?? 0, now: at }
  await db.run(sql`UPDATE ${rateLimits} SET tat = ${now} + ${burstMs(rate)} WHERE id = ${id} AND tat > ${now} + ${burstMs(rate)}`)
  return { tat: limit, now: at }
}

/** Limits that are whole again are as if they had never been. An hour for clocks that differ. */
export async function pruneRateLimits(db: Db, now: number): Promise<void> {
  await db.delete(rateLimits).where(lt(rateLimits.tat, now - 3_600_000))
}
