/**
 * A run as it is looked at: what clients see of its row, and the line of its result, in one statement. Short requests are
 * mostly this, and two statements of all there is of it cost twice as much.
 *
 * Where one database has both. The line of a run that has ended is in no journal any more.
 */
import { and, eq, sql } from 'drizzle-orm'
import { runEvents, runs } from '../../drizzle/schema.ts'
import type { Db, RunRef, ShownRun } from '../ports.ts'
import { mapped } from './mapped.ts'
import { prepared } from './prepared.ts'
import { eventOf, readEvent } from './run-events.ts'
import { LISTED } from './run-pages.ts'

const OF_RUN = { ...LISTED, tenant: runs.tenant, pool: runs.pool, resultSeq: runs.resultSeq, prunedAt: runs.prunedAt }
const OF_CHUNK = { first: runEvents.first, count: runEvents.count, kind: runEvents.kind, bytes: runEvents.bytes }
const SHOWN = { ...OF_RUN, ...OF_CHUNK }
const asShown = mapped(SHOWN)

const oneShown = prepared((db) => {
  // The first row of the chunk that the result is in; none where there is no result.
  const first = sql`(SELECT max(first) FROM run_events WHERE run = ${runs.id} AND first <= ${runs.resultSeq})`
  return db
    .select(SHOWN)
    .from(runs)
    .leftJoin(runEvents, and(eq(runEvents.run, runs.id), eq(runEvents.first, first), eq(runEvents.part, 0)))
    .where(and(eq(runs.id, sql.placeholder('run')), eq(runs.tenant, sql.placeholder('tenant'))))
    .limit(1)
    .prepare()
})

/** Undefined for a foreign id as for an unknown one. */
export async function findShown(db: Db, ref: RunRef): Promise<ShownRun | undefined> {
  const [values] = await oneShown(db).values({ ...ref })
  if (!values) return undefined
  const row = asShown(values)
  const { id, resultSeq, prunedAt, first, count, kind, bytes } = row
  // The columns of the chunk are null where there is none.
  if (resultSeq === null || prunedAt !== null || bytes === null || first + count <= resultSeq) return { row, result: undefined }
  return { row, result: kind === 'part' ? await readEvent(db, id, resultSeq) : eventOf({ kind, first, bytes }, resultSeq) }
}
