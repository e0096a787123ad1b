/** What the row of a run says of the provider that it was given, before its runner says so. */
import { and, eq, isNull, sql } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'

type Granted = { readonly run: string; readonly tenant: string; readonly fence: number }

const live = ({ run, tenant, fence }: Granted) => and(eq(runs.id, run), eq(runs.tenant, tenant), eq(runs.fence, fence), isNull(runs.endedAt))

export function markGranted(db: Db, granted: Granted, { provider, degraded }: { provider: string; degraded: boolean }): Statement {
  return db
    .update(runs)
    .set({ provider, degraded: degraded || null })
    .where(live(granted))
}

/**
 * Gives the run to the provider with the fewest live runs for its weight, and says so in its row, where the next one counts
 * it: one statement, so that of many at once none sees the numbers of before the other. Undefined: the run is not here.
 */
export async function takeLeastBusy(
  db: Db,
  granted: Granted,
  among: readonly { readonly id: string; readonly weight: number }[],
): Promise<string | undefined> {
  const options = JSON.stringify(among.map(({ id, weight }) => [id, weight]))
  const busy = sql`(SELECT count(*) FROM ${runs} AS live WHERE live.ended_at IS NULL AND live.state IN ('offered', 'leased', 'running')
    AND live.tenant = ${granted.tenant} AND live.provider = json_extract(option.value, '$[0]') AND live.id <> ${granted.run})`
  const [row] = await db
    .update(runs)
    .set({
      provider: sql`(SELECT json_extract(option.value, '$[0]') FROM json_each(${options}) AS option
        ORDER BY (${busy} + 1.0) / json_extract(option.value, '$[1]'), option.key LIMIT 1)`,
    })
    .where(live(granted))
    .returning({ provider: runs.provider })
  return row?.provider ?? undefined
}
