/**
 * The event log: rows go in as they came over the wire and come out as whole lines.
 *
 * An append is conditional on the run's fence and on its being alive, in the same statement, so a writer that was
 * overtaken changes nothing (I7), and the rows and the ending they bring are one commit (I5, I8).
 */
import { and, asc, desc, eq, lte, sql, type SQL } from 'drizzle-orm'
import { runEvents, runs } from '../../drizzle/schema.ts'
import { afterLines } from '../../shared/event-frames.ts'
import type { Position } from '../core/intake.ts'
import type { Append } from '../core/runner-core.ts'
import type { Db, EventChunk, Statement } from '../ports.ts'
import { prepared } from './prepared.ts'

const NEWLINE = 0x0a

/**
 * The statements of one append; the last one returns a row if and only if the append took effect. Where the ledger is in
 * the same database, settleStatements belong in front of those of an ending.
 */
export function appendStatements(db: Db, append: Append, now: number): Statement[] {
  const { run, fence, rows, ending } = append
  const alive = sql`EXISTS (SELECT 1 FROM ${runs} WHERE id = ${run} AND fence = ${fence} AND ended_at IS NULL)`
  const statements: unknown[] = []
  if (append.loss) {
    // Parts of a line that will never be whole would sit where the gap mark goes.
    statements.push(db.run(sql`DELETE FROM ${runEvents} WHERE run = ${run} AND first >= ${rows[0]?.first ?? 1} AND ${alive}`))
  }
  for (const row of rows) {
    statements.push(
      db.all(sql`
        INSERT INTO ${runEvents} (run, first, part, parts, count, kind, bytes)
        SELECT ${run}, ${row.first}, ${row.part}, ${row.parts}, ${row.count}, ${row.kind}, ${row.bytes} WHERE ${alive}
        RETURNING first`),
    )
  }
  const moves = {
    ...(append.started ? { provider: append.started.provider } : {}),
    // From the start on nobody needs the prompt any more.
    ...(append.running ? { state: 'running' as const, spec: null } : {}),
    ...(ending
      ? {
          state: ending.state,
          spec: null,
          endedAt: now,
          lastSeq: append.upTo.seq,
          eventBytes: sql`(SELECT coalesce(sum(length(bytes)), 0) FROM ${runEvents} WHERE run = ${run})`,
          resultSeq: ending.result?.seq ?? null,
          isError: ending.state !== 'succeeded',
          errorCode: ending.error?.code ?? null,
          errorMessage: ending.error?.message ?? null,
          // Where nobody knows, settleStatements has said what stands for it.
          ...(ending.costUsd === undefined ? {} : costColumns(ending.costUsd, ending.costIsLeast ?? false)),
          ...(ending.provider === undefined ? {} : { provider: ending.provider }),
          usage: ending.result?.usage ?? null,
          numTurns: ending.result?.num_turns ?? null,
          durationMs: ending.durationMs,
          ...(ending.result?.model ? { model: ending.result.model } : {}),
          ...(append.loss ? { fence: fence + 1 } : {}),
        }
      : {}),
  }
  if (Object.keys(moves).length > 0) {
    statements.push(db.update(runs).set(moves).where(and(eq(runs.id, run), eq(runs.fence, fence), sql`ended_at IS NULL`)).returning({ id: runs.id }))
  }
  return statements as Statement[]
}

/** What of a run's cost is written beside settleStatements. `isLeast`: those may have found that more was reserved. */
export function costColumns(usd: number, isLeast: boolean): { costUsd: number | SQL; costEstimated: boolean } {
  return { costUsd: isLeast ? sql`max(coalesce(${runs.costUsd}, 0), ${usd})` : usd, costEstimated: isLeast }
}

/** Where the log of a run stands: whole events, and the parts of the one after them. */
export type LogEnd = Position & { readonly parts: number }

/** What can be asked of the event log, wherever its newest rows are. */
export interface LogReads {
  end(run: string): Promise<LogEnd>
  /** See `readChunks`. */
  chunks(run: string, afterSeq: number, maxBytes: number): Promise<EventChunk[]>
  /** See `readEvent`. */
  event(run: string, seq: number): Promise<Uint8Array | undefined>
}

/** The log where the database has all of it. */
export function databaseReads(db: Db): LogReads {
  return {
    end: (run) => logEnd(db, run),
    chunks: (run, afterSeq, maxBytes) => readChunks(db, run, afterSeq, maxBytes),
    event: (run, seq) => readEvent(db, run, seq),
  }
}

export async function logEnd(db: Db, run: string): Promise<LogEnd> {
  const [last] = await db
    .select({ first: runEvents.first, part: runEvents.part, parts: runEvents.parts, count: runEvents.count })
    .from(runEvents)
    .where(eq(runEvents.run, run))
    .orderBy(desc(runEvents.first), desc(runEvents.part))
    .limit(1)
  if (!last) return { seq: 0, part: 0, parts: 0 }
  if (last.part + 1 < last.parts) return { seq: last.first - 1, part: last.part + 1, parts: last.parts }
  return { seq: last.first + last.count - 1, part: 0, parts: 0 }
}

const ROW = { first: runEvents.first, part: runEvents.part, parts: runEvents.parts, count: runEvents.count, kind: runEvents.kind, bytes: runEvents.bytes }
const given = { run: sql.placeholder('run'), next: sql.placeholder('next'), maxBytes: sql.placeholder('maxBytes') }

const pageOfRows = prepared((db) => {
  const page = db
    .select({
      first: runEvents.first,
      part: runEvents.part,
      before: sql<number>`sum(length(${runEvents.bytes})) OVER (ORDER BY ${runEvents.first}, ${runEvents.part}) - length(${runEvents.bytes})`.as('before'),
    })
    .from(runEvents)
    // The chunk that holds the next event may begin before it.
    .where(and(eq(runEvents.run, given.run), sql`${runEvents.first} >= (SELECT max(first) FROM run_events WHERE run = ${given.run} AND first <= ${given.next})`))
    .orderBy(asc(runEvents.first), asc(runEvents.part))
    .limit(64)
    .as('page')
  return db
    .select(ROW)
    .from(page)
    .innerJoin(runEvents, and(eq(runEvents.run, given.run), eq(runEvents.first, page.first), eq(runEvents.part, page.part)))
    .where(sql`${page.before} < ${given.maxBytes}`)
    .orderBy(asc(runEvents.first), asc(runEvents.part))
    .prepare()
})

/** The first row of the chunk that an event is in, or of the last one before it. */
const chunkAt = prepared((db) =>
  db
    .select(ROW)
    .from(runEvents)
    .where(and(eq(runEvents.run, given.run), lte(runEvents.first, given.next)))
    .orderBy(desc(runEvents.first), asc(runEvents.part))
    .limit(1)
    .prepare(),
)

/**
 * The next page after `afterSeq`: at least one chunk if there is one, at most about `maxBytes`. A line in parts is one
 * chunk of its own, and not there until its last part is.
 */
export async function readChunks(db: Db, run: string, afterSeq: number, maxBytes: number): Promise<EventChunk[]> {
  const next = afterSeq + 1
  const rows = await pageOfRows(db).all({ run, next, maxBytes })
  const chunks: EventChunk[] = []
  for (const row of rows) {
    if (row.first + row.count <= next) continue
    if (row.kind === 'part') {
      if (chunks.length > 0) break
      const line = await joinParts(db, run, row.first, row.parts)
      return line ? [{ kind: 'ev', first: row.first, count: 1, bytes: line }] : []
    }
    const skip = row.kind === 'ev' ? Math.max(0, next - row.first) : 0
    chunks.push({ kind: row.kind, first: row.first + skip, count: row.count - skip, bytes: afterLines(row.bytes, skip) })
  }
  return chunks
}

async function joinParts(db: Db, run: string, seq: number, parts: number): Promise<Uint8Array | undefined> {
  const rows = await db
    .select({ bytes: runEvents.bytes })
    .from(runEvents)
    .where(and(eq(runEvents.run, run), eq(runEvents.first, seq)))
    .orderBy(asc(runEvents.part))
  if (rows.length < parts) return undefined
  const line = new Uint8Array(rows.reduce((sum, r) => sum + r.bytes.length, 1))
  let at = 0
  for (const { bytes } of rows) {
    line.set(bytes, at)
    at += bytes.length
  }
  line[at] = NEWLINE
  return line
}

/** One event of a run, or undefined if it is not (or no longer) kept. A line ends with its `\n`. */
export async function readEvent(db: Db, run: string, seq: number): Promise<Uint8Array | undefined> {
  const [chunk] = await chunkAt(db).all({ run, next: seq })
  if (!chunk || chunk.first + chunk.count <= seq) return undefined
  if (chunk.kind === 'part') return joinParts(db, run, seq, chunk.parts)
  return eventOf(chunk as EventChunk, seq)
}

/** One event of a chunk that has it. */
export function eventOf({ kind, first, bytes }: Pick<EventChunk, 'kind' | 'first' | 'bytes'>, seq: number): Uint8Array {
  if (kind === 'mark') return bytes
  const lines = afterLines(bytes, seq - first)
  return lines.subarray(0, lines.indexOf(NEWLINE) + 1)
}
