/** A journal of its own before a database file of its own, and what a `kill -9` would leave of both. */
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eq, sql } from 'drizzle-orm'
import { expect } from 'vitest'
import { runs } from '../../drizzle/schema.ts'
import { GroupCommitLog, sqlCommit } from '../../router/hub/event-log.ts'
import { openDatabase, type Database } from '../../router/node/database.ts'
import { Journal, weigh } from '../../router/node/journal/journal.ts'
import type { EventChunk, Log } from '../../router/ports.ts'
import type { LogReads } from '../../router/store/run-events.ts'
import { appendOf, lines, nextTurn, openLog, type LogRig } from './log.ts'

/** So small that tests come to its end. */
const FILE_BYTES = 4_096

export interface JournalRig extends LogRig {
  /** Where the files of the journal are. */
  readonly journalDir: string
  journal: Journal
  log: GroupCommitLog
  /** What the journal has said to the log. */
  readonly said: string[]
  running(): Promise<string>
  /** Another one before the same database. */
  opened(dir: string, fileBytes?: number): Promise<Journal>
  /** In place of the one that was. */
  reopen(fileBytes: number): Promise<void>
  /** The database takes nothing of this run any more, or not that event, until it is released. */
  refuse(run: string, first?: number): Promise<() => Promise<void>>
  /** The database as the next start after a `kill -9` finds it, and has it as soon as it has started. */
  crashed(): Promise<{ readonly database: Database; close(): Promise<void> }>
}

export const journalCommit = (database: Database) => sqlCommit(database, { now: () => 7 })

export function noting(said: string[]): Log {
  const note = (_: object, message: string) => void said.push(message)
  return { info: note, warn: note, error: note }
}

export async function openJournal(): Promise<JournalRig> {
  const rig = await openLog()
  const journalDir = await mkdtemp(join(tmpdir(), 'runyard-journal-'))
  const said: string[] = []
  const opened = (database: Database, dir: string, fileBytes = FILE_BYTES) =>
    Journal.open({ dir, db: database.db, commit: journalCommit(database), log: noting(said), nextTurn, fileBytes })
  const journal = await opened(rig.database, journalDir)
  const made: JournalRig = {
    ...rig,
    journalDir,
    journal,
    log: new GroupCommitLog(journal.commit, nextTurn, weigh),
    said,
    async running() {
      const run = await rig.run()
      await rig.database.db.update(runs).set({ state: 'running' }).where(eq(runs.id, run))
      return run
    },
    opened: (dir, fileBytes) => opened(rig.database, dir, fileBytes),
    async reopen(fileBytes) {
      await made.journal.close()
      made.journal = await opened(rig.database, journalDir, fileBytes)
      made.log = new GroupCommitLog(made.journal.commit, nextTurn, weigh)
    },
    async refuse(run, first) {
      const raise = `SELECT RAISE(ABORT, 'integer overflow')`
      const isIt = `NEW.run = '${run}'${first === undefined ? '' : ` AND NEW.first = ${first}`}`
      await rig.database.db.run(sql.raw(`CREATE TRIGGER refuses BEFORE INSERT ON run_events WHEN ${isIt} BEGIN ${raise}; END`))
      return async () => void (await rig.database.db.run(sql.raw('DROP TRIGGER refuses')))
    },
    async crashed() {
      const copy = await mkdtemp(join(tmpdir(), 'runyard-journal-'))
      for (const suffix of ['', '-wal']) await cp(`${rig.path}${suffix}`, join(copy, `test.db${suffix}`))
      for (const name of await readdir(journalDir)) await cp(join(journalDir, name), join(copy, name))
      const database = await openDatabase(join(copy, 'test.db'))
      const another = await opened(database, copy)
      return {
        database,
        async close() {
          await another.close()
          await database.close()
          await rm(copy, { recursive: true, force: true })
        },
      }
    },
    async close() {
      await made.journal.close()
      await rig.close()
      await rm(journalDir, { recursive: true, force: true })
    },
  }
  return made
}

export const line = (run: string, seq: number, text = `{"n":${seq}}`) => appendOf(run, [lines(seq, [text])])

export const textsOf = (chunks: readonly EventChunk[]) =>
  chunks.flatMap(({ bytes }) => Buffer.from(bytes).toString().trimEnd().split('\n'))

/** All of a run, read as a subscriber does. */
export async function allOf(reads: LogReads, run: string, pageBytes = 64): Promise<string[]> {
  const all: string[] = []
  for (let after = 0; ; ) {
    const chunks = await reads.chunks(run, after, pageBytes)
    const last = chunks.at(-1)
    if (!last) return all
    expect(chunks[0]!.first).toBe(after + 1)
    all.push(...textsOf(chunks))
    after = last.first + last.count - 1
  }
}

const NOTHING = { error: undefined, result: undefined, provider: undefined }
export const ENDED = { state: 'failed', durationMs: 0, costUsd: 0, ...NOTHING } as const
