/**
 * The event log: rows go in as they came over the wire and come out as whole lines.
 *
 * An append is conditional on the run's fence and on its being alive, in the same statement, so a writer that was
 * overtaken changes nothing (I7), and the rows and the ending they bring are one commit (I5, I8).
 */
import { and, asc, desc, eq, lte, sql, type SQL } from 'drizzle-orm'
import { runEvents, runs } from '../../drizzle/schema.ts'
import { afterLines } from '../../shared/event-frames.ts'
import type { LogRow, Position } from '../core/intake.ts'
import type { Ending } from '../core/run-state.ts'
import type { Append } from '../core/runner-core.ts'
import type { Db, EventChunk, RunRow, Statement } from '../ports.ts'
import { compiled, prepared, type Given } from './prepared.ts'

const NEWLINE = 0x0a

/** Whose append it is. */
type Holder = { run: string; fence: number }

/** Of a row of `runs`: it goes on, under this fence. */
const isHis = (given: Given<Holder>) => sql`id = ${given('run')} AND fence = ${given('fence')} AND ended_at IS NULL`
const alive = (given: Given<Holder>) => sql`EXISTS (SELECT 1 FROM ${runs} WHERE ${isHis(given)})`

const dropped = compiled<Holder & { from: number }>(
  (given) => sql`DELETE FROM ${runEvents} WHERE run = ${given('run')} AND first >= ${given('from')} AND ${alive(given)}`,
)

const inserted = compiled<Holder & LogRow>(
  (given) => sql`
    INSERT INTO ${runEvents} (run, first, part, parts, count, kind, bytes)
    SELECT ${given('run')}, ${given('first')}, ${given('part')}, ${given('parts')}, ${given('count')}, ${given('kind')}, ${given('bytes')} WHERE ${alive(given)}
    RETURNING first`,
)

const paid = compiled<Holder & { provider: string }>(
  (given) => sql`UPDATE ${runs} SET provider = ${given('provider')} WHERE ${isHis(given)} RETURNING id`,
)

/** From the start on nobody needs the prompt any more. */
const started = compiled<Holder>((given) => sql`UPDATE ${runs} SET state = 'running', spec = NULL WHERE ${isHis(given)} RETURNING id`)

type Told = Pick<RunRow, 'state' | 'lastSeq' | 'resultSeq' | 'errorCode' | 'errorMessage' | 'usage' | 'numTurns' | 'durationMs'>
/** `nextFence`: under which nobody appends. Null: what the row says of it stays; of the cost settling has said what stands for it. */
type Ended = Holder & Told & { now: number; isError: boolean; nextFence: number; costUsd: number | null; costIsLeast: boolean } & Pick<RunRow, 'provider' | 'model'>

const estimated = (given: Given<Pick<Ended, 'costIsLeast'>>) => sql.param(given('costIsLeast'), runs.costEstimated)

const ended = compiled<Ended>(
  (given) => sql`
    UPDATE ${runs} SET state = ${given('state')}, spec = NULL, ended_at = ${given('now')}, fence = ${given('nextFence')},
      last_seq = ${given('lastSeq')}, event_bytes = (SELECT coalesce(sum(length(bytes)), 0) FROM ${runEvents} WHERE run = ${given('run')}),
      result_seq = ${given('resultSeq')}, is_error = ${sql.param(given('isError'), runs.isError)},
      error_code = ${given('errorCode')}, error_message = ${given('errorMessage')},
      cost_usd = coalesce(iif(${estimated(given)}, max(coalesce(cost_usd, 0), ${given('costUsd')}), ${given('costUsd')}), cost_usd),
      cost_estimated = iif(${given('costUsd')} IS NULL, cost_estimated, ${estimated(given)}),
      usage = ${sql.param(given('usage'), runs.usage)}, num_turns = ${given('numTurns')}, duration_ms = ${given('durationMs')},
      provider = coalesce(${given('provider')}, provider), model = coalesce(${given('model')}, model)
    WHERE ${isHis(given)} RETURNING id`,
)

/**
 * The statements of one append; the last one returns a row if and only if the append took effect. Where the ledger is in
 * the same database, those of settling belong in front of those of an ending.
 */
export function appendStatements(db: Db, append: Append, now: number): Statement[] {
  const { run, fence, rows, ending } = append
  const statements: unknown[] = []
  // Parts of a line that will never be whole would sit where the gap mark goes.
  if (append.loss) statements.push(db.run(dropped({ run, fence, from: rows[0]?.first ?? 1 })))
  for (const row of rows) statements.push(db.all(inserted({ run, fence, ...row })))
  if (append.started) statements.push(db.all(paid({ run, fence, provider: append.started.provider })))
  if (append.running) statements.push(db.all(started({ run, fence })))
  if (ending) statements.push(db.all(ended({ run, fence, now, ...told(append, ending) })))
  return statements as Statement[]
}

function told({ fence, upTo, loss }: Append, { state, error, result, ...ending }: Ending): Omit<Ended, keyof Holder | 'now'> {
  return {
    state,
    nextFence: loss ? fence + 1 : fence,
    lastSeq: upTo.seq,
    resultSeq: result?.seq ?? null,
    isError: state !== 'succeeded',
    errorCode: error?.code ?? null,
    errorMessage: error?.message ?? null,
    costUsd: ending.costUsd ?? null,
    costIsLeast: ending.costIsLeast ?? false,
    provider: ending.provider ?? null,
    usage: result?.usage ?? null,
    numTurns: result?.num_turns ?? null,
    durationMs: ending.durationMs,
    // One without a name is none.
    model: result?.model || null,
  }
}

/** What of a run's cost is written beside settling. `isLeast`: those may have found that more was reserved. */
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
  const [last] = await lastRow(db).all({ run })
  if (!last) return { seq: 0, part: 0, parts: 0 }
  if (last.part + 1 < last.parts) return { seq: last.first - 1, part: last.part + 1, parts: last.parts }
  return { seq: last.first + last.count - 1, part: 0, parts: 0 }
}

const ROW = { first: runEvents.first, part: runEvents.part, parts: runEvents.parts, count: runEvents.count, kind: runEvents.kind, bytes: runEvents.bytes }
const wanted = { run: sql.placeholder('run'), next: sql.placeholder('next'), maxBytes: sql.placeholder('maxBytes') }

const lastRow = prepared((db) =>
  db
    .select({ first: runEvents.first, part: runEvents.part, parts: runEvents.parts, count: runEvents.count })
    .from(runEvents)
    .where(eq(runEvents.run, wanted.run))
    .orderBy(desc(runEvents.first), desc(runEvents.part))
    .limit(1)
    .prepare(),
)

const pageOfRows = prepared((db) => {
  const page = db
    .select({
      first: runEvents.first,
      part: runEvents.part,
      before: sql<number>`sum(length(${runEvents.bytes})) OVER (ORDER BY ${runEvents.first}, ${runEvents.part}) - length(${runEvents.bytes})`.as('before'),
    })
    .from(runEvents)
    // The chunk that holds the next event may begin before it.
    .where(and(eq(runEvents.run, wanted.run), sql`${runEvents.first} >= (SELECT max(first) FROM run_events WHERE run = ${wanted.run} AND first <= ${wanted.next})`))
    .orderBy(asc(runEvents.first), asc(runEvents.part))
    .limit(64)
    .as('page')
  return db
    .select(ROW)
    .from(page)
    .innerJoin(runEvents, and(eq(runEvents.run, wanted.run), eq(runEvents.first, page.first), eq(runEvents.part, page.part)))
    .where(sql`${page.before} < ${wanted.maxBytes}`)
    .orderBy(asc(runEvents.first), asc(runEvents.part))
    .prepare()
})

/** The first row of the chunk that an event is in, or of the last one before it. */
const chunkAt = prepared((db) =>
  db
    .select(ROW)
    .from(runEvents)
    .where(and(eq(runEvents.run, wanted.run), lte(runEvents.first, wanted.next)))
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
