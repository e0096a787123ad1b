import { cp, mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eq, sql } from 'drizzle-orm'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runEvents, runs } from '../../../drizzle/schema.ts'
import { lockWrites } from '../../../test/kit/lock.ts'
import { appendOf, lines, mark, nextTurn, openLog, part, type LogRig } from '../../../test/kit/log.ts'
import type { Append } from '../../core/runner-core.ts'
import { GroupCommitLog, sqlCommit, type Outcome } from '../../hub/event-log.ts'
import type { EventChunk, Log, Platform } from '../../ports.ts'
import { databaseReads, type LogReads } from '../../store/run-events.ts'
import { PATIENCE_MS } from '../connection.ts'
import { openDatabase, type Database } from '../database.ts'
import { Journal, weigh } from './journal.ts'
import { JOURNAL_FILES, recover } from './recover.ts'

const platform = { now: () => 7 } as Platform
const FILE_BYTES = 4_096
const ENDED = { state: 'failed', error: undefined, result: undefined, durationMs: 0, costUsd: 0, provider: undefined } as const

let rig: LogRig
let dir: string
let said: string[]
let journal: Journal
let log: GroupCommitLog
beforeEach(async () => {
  rig = await openLog()
  dir = await mkdtemp(join(tmpdir(), 'runyard-journal-'))
  said = []
  journal = await opened(rig.database, dir)
  log = new GroupCommitLog(journal.commit, nextTurn, weigh)
})
afterEach(async () => {
  await journal.close()
  await rig.close()
  await rm(dir, { recursive: true, force: true })
})

function quiet(): Log {
  const note = (_: object, message: string) => void said.push(message)
  return { info: note, warn: note, error: note }
}

function opened(database: Database, where: string, fileBytes = FILE_BYTES): Promise<Journal> {
  const commit = sqlCommit(database, platform)
  return Journal.open({ dir: where, db: database.db, commit, log: quiet(), nextTurn, fileBytes })
}

async function running(): Promise<string> {
  const run = await rig.run()
  await rig.database.db.update(runs).set({ state: 'running' }).where(eq(runs.id, run))
  return run
}

/** The database takes nothing of this run any more, and would never. */
async function refuse(run: string, database = rig.database): Promise<void> {
  const raise = `SELECT RAISE(ABORT, 'integer overflow')`
  await database.db.run(sql.raw(`CREATE TRIGGER refuses BEFORE INSERT ON run_events WHEN NEW.run = '${run}' BEGIN ${raise}; END`))
}

const line = (run: string, seq: number, text = `{"n":${seq}}`) => appendOf(run, [lines(seq, [text])])
const texts = (chunks: readonly EventChunk[]) => chunks.flatMap(({ bytes }) => Buffer.from(bytes).toString().trimEnd().split('\n'))

/** All of a run, read as a subscriber does. */
async function allOf(reads: LogReads, run: string, pageBytes = 64): Promise<string[]> {
  const all: string[] = []
  for (let after = 0; ; ) {
    const chunks = await reads.chunks(run, after, pageBytes)
    const last = chunks.at(-1)
    if (!last) return all
    expect(chunks[0]!.first).toBe(after + 1)
    all.push(...texts(chunks))
    after = last.first + last.count - 1
  }
}

/** Database and journal as a `kill -9` leaves them now. */
async function crashed(): Promise<{ database: Database; close(): Promise<void> }> {
  const copy = await mkdtemp(join(tmpdir(), 'runyard-journal-'))
  for (const suffix of ['', '-wal']) await cp(`${rig.path}${suffix}`, join(copy, `test.db${suffix}`))
  for (const name of await readdir(dir)) await cp(join(dir, name), join(copy, name))
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
}

describe('the journal', () => {
  it('keeps events out of the database for a while, and reads them all the same', async () => {
    const run = await running()
    for (const seq of [1, 2, 3]) expect(await log.append(line(run, seq))).toBe('durable')
    expect(await rig.rows(run)).toEqual([])
    expect(await journal.reads.end(run)).toMatchObject({ seq: 3, part: 0 })
    expect(await allOf(journal.reads, run)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
    expect(texts(await journal.reads.chunks(run, 2, 64))).toEqual(['{"n":3}'])
    expect(await journal.reads.chunks(run, 3, 64)).toEqual([])
    expect(Buffer.from((await journal.reads.event(run, 2))!).toString()).toBe('{"n":2}\n')
    expect(await journal.reads.event(run, 4)).toBeUndefined()
  })

  it('brings them into the database as few rows when it is closed, and leaves no file', async () => {
    const run = await running()
    for (const seq of [1, 2, 3]) await log.append(line(run, seq))
    await journal.close()
    expect(await rig.rows(run)).toEqual([[1, 0]])
    expect(await allOf(databaseReads(rig.database.db), run)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
    expect(await readdir(dir)).toEqual([])
  })

  it('ends a run with everything that it has of it, in one transaction', async () => {
    const run = await running()
    await log.append(line(run, 1))
    await log.append(appendOf(run, [mark(2, { kind: 'stderr' })]))
    expect(await log.append(appendOf(run, [mark(3, { kind: 'exit' })], { ending: ENDED }))).toBe('durable')
    expect(await rig.rows(run)).toEqual([[1, 0], [2, 0], [3, 0]])
    expect(await rig.row(run)).toMatchObject({ state: 'failed', lastSeq: 3, eventBytes: 8 + 17 + 15 })
    expect(await log.append(line(run, 4))).toBe('fenced_out')
  })

  it('takes nothing under a fence that is not the run’s, and nothing of a run that has not begun', async () => {
    const [run, leased] = [await running(), await rig.run()]
    expect(await log.append({ ...line(run, 1), fence: 2 })).toBe('fenced_out')
    expect(await log.append(line('run_nobody', 1))).toBe('fenced_out')
    expect(await log.append(line(leased, 1))).toBe('durable')
    expect(await rig.rows(leased)).toEqual([[1, 0]])
  })

  it('keeps the order of a run whose events take different ways in one group', async () => {
    const run = await rig.run()
    const outcomes = await Promise.all([
      log.append(appendOf(run, [], { running: true })),
      log.append(line(run, 1)),
      log.append(appendOf(run, [part(2, 0, 2, 'a')])),
      log.append(appendOf(run, [part(2, 1, 2, 'b')])),
      log.append(line(run, 3)),
    ])
    expect(outcomes).toEqual(Array.from({ length: 5 }, () => 'durable'))
    await log.append(line(run, 4))
    await log.append(line(run, 5, 'x'.repeat(20_000)))
    await log.append(line(run, 6))
    expect(await allOf(journal.reads, run)).toEqual(['{"n":1}', 'ab', '{"n":3}', '{"n":4}', 'x'.repeat(20_000), '{"n":6}'])
    expect(await rig.rows(run)).toEqual([[1, 0], [2, 0], [2, 1], [3, 0], [4, 0], [5, 0]])
  })

  it('uses its files again and again, and loses nothing', async () => {
    const ids = [await running(), await running()]
    for (let seq = 1; seq <= 200; seq++) await Promise.all(ids.map((run) => log.append(line(run, seq, 'y'.repeat(100)))))
    for (const run of ids) expect(await allOf(journal.reads, run)).toHaveLength(200)
    expect((await rig.rows(ids[0]!)).length).toBeGreaterThan(3)
    expect((await readdir(dir)).toSorted()).toEqual([...JOURNAL_FILES])
  })

  it('has events in the database when they are deleted with their run', async () => {
    const run = await running()
    await log.append(line(run, 1))
    await log.append(appendOf(run, [mark(2, { kind: 'exit' })], { ending: ENDED }))
    await rig.database.db.delete(runEvents).where(eq(runEvents.run, run))
    expect(await allOf(journal.reads, run)).toEqual([])
  })

  it('refuses appends while the database takes nothing and the files are full, and goes on when it does', async () => {
    const run = await running()
    await log.append(line(run, 1))
    const release = await lockWrites(rig.path)
    let kept = 1
    const refused = await (async () => {
      for (;;) {
        try {
          await log.append(line(run, kept + 1, 'z'.repeat(1_000)))
          kept++
        } catch (error) {
          return error
        }
      }
    })()
    expect(refused).toMatchObject({ code: 'storage' })
    expect(kept).toBeGreaterThan(4)
    expect((await journal.reads.end(run)).seq).toBe(kept)
    await release()
    expect(await log.append(line(run, kept + 1))).toBe('durable')
    expect(await allOf(journal.reads, run)).toHaveLength(kept + 1)
  })

  it('has the database keep what no file takes, and answers for each what else was in its group', async () => {
    await mkdir(join(dir, JOURNAL_FILES[0]))
    const [ended, run] = [await running(), await running()]
    const end = appendOf(ended, [mark(1, { kind: 'exit' })], { ending: ENDED })
    expect(await Promise.all([log.append(end), log.append(line(run, 1))])).toEqual(['durable', 'durable'])
    expect(await rig.rows(run)).toEqual([[1, 0]])
    await rm(join(dir, JOURNAL_FILES[0]), { recursive: true })
    expect(await log.append(line(run, 2))).toBe('durable')
    expect(await rig.rows(run)).toEqual([[1, 0]])
  })

  it('rejects only what nobody keeps, beside what is kept', async () => {
    await mkdir(join(dir, JOURNAL_FILES[0]))
    const [ended, run] = [await running(), await running()]
    await refuse(run)
    const end = appendOf(ended, [mark(1, { kind: 'exit' })], { ending: ENDED })
    const outcomes = await Promise.allSettled([log.append(end), log.append(line(run, 1))])
    expect(outcomes).toMatchObject([{ value: 'durable' }, { reason: { code: 'storage' } }])
    await rm(join(dir, JOURNAL_FILES[0]), { recursive: true })
  })

  it('lets go of what the database refuses of one run, and says so, as all others would wait for it', async () => {
    const [bad, good] = [await running(), await running()]
    await Promise.all([bad, good].map((run) => log.append(line(run, 1))))
    await refuse(bad)
    for (let seq = 2; seq < 40; seq++) expect(await log.append(line(good, seq, 'z'.repeat(1_000)))).toBe('durable')
    expect(await allOf(journal.reads, good)).toHaveLength(39)
    expect(said).toContain('events of a run are lost: the database refuses them')
  })

  it('keeps events while the database is asked in vain to take what a full file holds', async () => {
    const run = await running()
    for (let seq = 1; seq <= 8; seq++) await log.append(line(run, seq, 'y'.repeat(500)))
    const release = await lockWrites(rig.path)
    // This one is the first in the other file; what the full one holds is on its way to the database from here on.
    await log.append(line(run, 9))
    const since = performance.now()
    for (let seq = 10; seq <= 20; seq++) await log.append(line(run, seq))
    expect(performance.now() - since).toBeLessThan(PATIENCE_MS / 2)
    await release()
    expect(await allOf(journal.reads, run)).toHaveLength(20)
  })

  it('leaves its files where the database does not take what they hold', async () => {
    await log.append(line(await running(), 1))
    const release = await lockWrites(rig.path)
    await journal.close()
    await release()
    expect((await readdir(dir)).toSorted()).toEqual([...JOURNAL_FILES])
  })

  it('refuses what comes when it is being closed', async () => {
    const run = await running()
    await log.append(line(run, 1))
    const closing = journal.close()
    await expect(log.append(line(run, 2))).rejects.toMatchObject({ code: 'storage' })
    await closing
    expect(await rig.rows(run)).toEqual([[1, 0]])
  })
})

describe('after a crash', () => {
  it('what was durable is there, and nothing of it twice', async () => {
    const [run, ended] = [await running(), await running()]
    for (const seq of [1, 2]) await Promise.all([run, ended].map((one) => log.append(line(one, seq))))
    await log.append(appendOf(ended, [mark(3, { kind: 'exit' })], { ending: ENDED }))
    const first = await crashed()
    expect(await allOf(databaseReads(first.database.db), run)).toEqual(['{"n":1}', '{"n":2}'])
    expect(await allOf(databaseReads(first.database.db), ended)).toHaveLength(3)
    const again = await opened(first.database, dir)
    expect(await allOf(again.reads, run)).toEqual(['{"n":1}', '{"n":2}'])
    await again.close()
    await first.close()
  })

  it('one run that the database refuses keeps nobody from starting', async () => {
    const [bad, good] = [await running(), await running()]
    await Promise.all([bad, good].map((run) => log.append(line(run, 1))))
    await refuse(bad)
    const after = await crashed()
    expect(await allOf(databaseReads(after.database.db), good)).toEqual(['{"n":1}'])
    expect(said).toContain('events of a run are lost: the database refuses them')
    await after.close()
  })

  it('many runs are few transactions', async () => {
    await journal.close()
    journal = await opened(rig.database, dir, 1024 * 1024)
    log = new GroupCommitLog(journal.commit, nextTurn, weigh)
    const ids = await Promise.all(Array.from({ length: 300 }, running))
    for (const seq of [1, 2]) await Promise.all(ids.map((run) => log.append(line(run, seq, 'y'))))
    const groups: number[] = []
    const commit = sqlCommit(rig.database, platform)
    await recover({
      dir,
      db: rig.database.db,
      log: quiet(),
      commit(appends) {
        groups.push(appends.length)
        return commit(appends)
      },
    })
    expect(groups).toEqual([256, 44])
  })

  it('a file that cannot be looked at is not taken for one that is not there', async () => {
    const elsewhere = join(dir, 'elsewhere')
    await mkdir(elsewhere)
    await symlink(JOURNAL_FILES[0], join(elsewhere, JOURNAL_FILES[0]))
    await expect(opened(rig.database, elsewhere)).rejects.toMatchObject({ code: 'ELOOP' })
  })

  it('a run that was given to another runner since has nothing of the first one', async () => {
    const run = await running()
    await log.append(line(run, 1))
    await rig.database.db.update(runs).set({ fence: 2 }).where(eq(runs.id, run))
    const after = await crashed()
    expect(await allOf(databaseReads(after.database.db), run)).toEqual([])
    await after.close()
  })

  /** Any schedule of appends of several runs, endings and crashes: each log is what was answered `durable`, in its order. */
  it('every log is what was said to be durable, whenever it comes', async () => {
    const what = fc.constantFrom('line', 'line', 'line', 'mark', 'part', 'loud', 'end')
    const step = fc.record({ run: fc.nat(2), what, together: fc.boolean(), crash: fc.nat(6) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        const begun = async () => ({ run: await running(), seq: 0, durable: [] as string[], over: false })
        const logs = await Promise.all([begun(), begun(), begun()])
        let pending: Promise<unknown>[] = []
        for (const { run: at, what: does, together, crash } of steps) {
          const its = logs[at]!
          if (its.over) continue
          const add = (append: Append, text: string) => {
            const answered = log.append(append).then((outcome: Outcome) => outcome === 'durable' && its.durable.push(text))
            pending.push(answered)
          }
          const seq = ++its.seq
          const text = does === 'loud' ? `${seq}`.padEnd(20_000, '.') : `${seq}`.padEnd(300, '.')
          if (does === 'line' || does === 'loud') add(line(its.run, seq, text), text)
          else if (does === 'part') {
            pending.push(log.append(appendOf(its.run, [part(seq, 0, 2, text)])))
            add(appendOf(its.run, [part(seq, 1, 2, '!')]), `${text}!`)
          } else {
            its.over = does === 'end'
            const json = { kind: does === 'end' ? 'exit' : 'gap', seq }
            add(appendOf(its.run, [mark(seq, json)], its.over ? { ending: ENDED } : {}), JSON.stringify(json))
          }
          if (together) continue
          await Promise.all(pending)
          pending = []
          if (crash > 0) continue
          const after = await crashed()
          for (const one of logs) expect(await allOf(databaseReads(after.database.db), one.run, 1_000)).toEqual(one.durable)
          await after.close()
        }
        await Promise.all(pending)
        for (const one of logs) expect(await allOf(journal.reads, one.run, 1_000)).toEqual(one.durable)
      }),
      { numRuns: 25 },
    )
  })
})
