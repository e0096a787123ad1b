/** Runs in pages, newest first: what is listed of them, which is less than their rows have. */
import { and, desc, eq, inArray, lt, sql } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import { statesOf, type PublicStatus } from '../core/run-state.ts'
import type { Db } from '../ports.ts'
import { mapped } from './mapped.ts'
import { prepared } from './prepared.ts'

/** What is shown of a run, by its columns. */
export const LISTED = {
  id: runs.id,
  state: runs.state,
  session: runs.session,
  runner: runs.runner,
  cwd: runs.cwd,
  provider: runs.provider,
  model: runs.model,
  isError: runs.isError,
  errorCode: runs.errorCode,
  errorMessage: runs.errorMessage,
  costUsd: runs.costUsd,
  costEstimated: runs.costEstimated,
  degraded: runs.degraded,
  usage: runs.usage,
  numTurns: runs.numTurns,
  durationMs: runs.durationMs,
  createdAt: runs.createdAt,
  startedAt: runs.startedAt,
  endedAt: runs.endedAt,
  metadata: runs.metadata,
}
const asListed = mapped(LISTED)
/** What lists show of a run. */
export type ListedRun = ReturnType<typeof asListed>

export type RunFilter = { status: PublicStatus | undefined; session: string | undefined; before: string | undefined; limit: number }

/** Run ids sort by age, so the last one seen is the cursor. */
export async function listRuns(db: Db, tenant: string, filter: RunFilter): Promise<ListedRun[]> {
  const rows = await pages(db)(filter).values({ tenant, ...filter })
  return rows.map(asListed)
}

/** One query for each combination of what may be filtered by. */
const pages = prepared((db) => {
  const built = new Map<string, ReturnType<typeof pageOf>>()
  return (filter: RunFilter) => {
    const which = [filter.status, Boolean(filter.session), Boolean(filter.before)].join()
    const page = built.get(which) ?? pageOf(db, filter)
    built.set(which, page)
    return page
  }
})

function pageOf(db: Db, { status, session, before }: RunFilter) {
  const given = { tenant: sql.placeholder('tenant'), session: sql.placeholder('session'), before: sql.placeholder('before') }
  return db
    .select(LISTED)
    .from(runs)
    .where(
      and(
        // Without the sign the planner goes through all runs of the tenant to find those of one session.
        session ? sql`+${runs.tenant} = ${given.tenant}` : eq(runs.tenant, given.tenant),
        status && inArray(runs.state, statesOf(status)),
        session ? eq(runs.session, given.session) : undefined,
        before ? lt(runs.id, given.before) : undefined,
      ),
    )
    .orderBy(desc(runs.id))
    .limit(sql.placeholder('limit'))
    .prepare()
}
