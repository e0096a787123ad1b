/** What a crash has left in the files of the journal. */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Commit } from '../../hub/event-log.ts'
import type { Db, Log } from '../../ports.ts'
import { logEnd } from '../../store/run-events.ts'
import { JournalFile, type Records } from './file.ts'
import type { WholeRow } from './held.ts'
import { decodeRow } from './record.ts'

export const JOURNAL_FILES = ['events-0.journal', 'events-1.journal'] as const

export interface RecoverParts {
  readonly dir: string
  readonly db: Db
  /** What the database does with appends. */
  readonly commit: Commit
  readonly log: Log
}

/**
 * Brings into the database what the files hold and it lacks: of each run that goes on under the same fence, what follows its
 * log's end. Everything else is there already, or was never told to anybody. Resolves to the newest use of a file.
 */
export async function recover({ dir, db, commit, log }: RecoverParts): Promise<number> {
  const found: Records[] = []
  for (const name of JOURNAL_FILES) {
    const path = join(dir, name)
    if (!(await stat(path).catch(() => undefined))) continue
    const file = await JournalFile.open(path)
    try {
      const records = await file.read()
      if (records) found.push(records)
    } finally {
      await file.close(false)
    }
  }
  const inOrder = found.toSorted((a, b) => a.use - b.use)
  const appends = new Map<string, { run: string; fence: number; rows: WholeRow[]; end: number }>()
  for (const record of inOrder.flatMap(({ records }) => records)) {
    const decoded = decodeRow(record)
    if (!decoded) continue
    const { run, fence, row } = decoded
    const key = `${run}.${fence}`
    const known = appends.get(key)
    const { seq, part } = known ? { seq: known.end, part: 0 } : await logEnd(db, run)
    const append = known ?? { run, fence, rows: [], end: seq }
    appends.set(key, append)
    if (part > 0 || row.first !== append.end + 1) continue
    append.rows.push(row)
    append.end = row.first + row.count - 1
  }
  let events = 0
  for (const { run, fence, rows, end } of appends.values()) {
    if (rows.length === 0) continue
    const [outcome] = await commit([{ run, fence, rows, upTo: { seq: end, part: 0 } }])
    if (outcome === 'durable') events += rows.reduce((sum, { count }) => sum + count, 0)
  }
  if (events > 0) log.info({ events }, 'events of an earlier life were taken from the journal')
  return inOrder.at(-1)?.use ?? 0
}
