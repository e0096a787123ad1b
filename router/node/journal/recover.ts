/**
 * What a crash has left in the files of the journal goes to the database: of each run that goes on under the same fence, what
 * follows the end of its log. Everything else is there already, or was never told to anybody.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Append } from '../../core/runner-core.ts'
import type { Db, Log } from '../../ports.ts'
import { logEnd } from '../../store/run-events.ts'
import { isRefusedStatement } from '../../store/statement-error.ts'
import { JournalFile, type Records } from './file.ts'
import { merged, type WholeRow } from './held.ts'
import { decodeRow } from './record.ts'
import type { DatabaseCommit } from './settler.ts'

export const JOURNAL_FILES = ['events-0.journal', 'events-1.journal'] as const
/** Runs of one transaction. */
const GROUP = 256

export interface RecoverParts {
  readonly dir: string
  readonly db: Db
  readonly commit: DatabaseCommit
  readonly log: Log
}

/** Resolves to the newest use of a file. Rejects when the files cannot be read or the database takes nothing. */
export async function recover(parts: RecoverParts): Promise<number> {
  const { dir, db, log } = parts
  const found: Records[] = []
  for (const name of JOURNAL_FILES) found.push(...(await readOf(join(dir, name))))
  const inOrder = found.toSorted((a, b) => a.use - b.use)
  const pending = new Map<string, { run: string; fence: number; rows: WholeRow[]; end: number; isWhole: boolean }>()
  let unknown = 0
  for (const record of inOrder.flatMap(({ records }) => records)) {
    const decoded = decodeRow(record)
    if (!decoded) {
      unknown++
      continue
    }
    const { run, fence, row } = decoded
    const key = `${run}.${fence}`
    let its = pending.get(key)
    if (!its) {
      const { seq, part } = await logEnd(db, run)
      // In the middle of a line in parts nothing else can follow.
      its = { run, fence, rows: [], end: seq, isWhole: part === 0 }
      pending.set(key, its)
    }
    if (!its.isWhole || row.first !== its.end + 1) continue
    its.rows.push(row)
    its.end += row.count
  }
  if (unknown > 0) log.error({ records: unknown }, 'the journal has records that this version cannot read; they are left out')
  const appends = [...pending.values()].filter(({ rows }) => rows.length > 0)
  let events = 0
  for (let at = 0; at < appends.length; at += GROUP) {
    const group = appends.slice(at, at + GROUP)
    events += await keep(parts, group.map(({ run, fence, rows, end }): Append => {
      return { run, fence, rows: merged(rows), upTo: { seq: end, part: 0 } }
    }))
  }
  if (events > 0) log.info({ events }, 'events of an earlier life were taken from the journal')
  return inOrder.at(-1)?.use ?? 0
}

async function readOf(path: string): Promise<Records[]> {
  try {
    await stat(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const file = await JournalFile.open(path)
  try {
    const records = await file.read()
    return records ? [records] : []
  } finally {
    await file.close(false)
  }
}

/** How many events. One run that the database refuses must not keep all others from starting. */
async function keep(parts: Pick<RecoverParts, 'commit' | 'log'>, group: readonly Append[]): Promise<number> {
  const { commit, log } = parts
  try {
    const outcomes = await commit(group)
    const kept = group.flatMap(({ rows }, i) => (outcomes[i] === 'durable' ? rows : []))
    return kept.reduce((sum, { count }) => sum + count, 0)
  } catch (error) {
    if (!isRefusedStatement(error)) throw error
    if (group.length === 1) {
      log.error({ err: error, run: group[0]!.run }, 'events of a run are lost: the database refuses them')
      return 0
    }
    let events = 0
    for (const one of group) events += await keep(parts, [one])
    return events
  }
}
