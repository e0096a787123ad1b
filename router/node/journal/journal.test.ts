import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { eq, sql } from 'drizzle-orm'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runEvents } from '../../../drizzle/schema.ts'
import { allOf, ENDED, line, openJournal, textsOf, type JournalRig } from '../../../test/kit/journal.ts'
import { keepAndFail } from '../../../test/kit/kept.ts'
import { lockWrites } from '../../../test/kit/lock.ts'
import { appendOf, mark, part } from '../../../test/kit/log.ts'
import { databaseReads } from '../../store/run-events.ts'
import { PATIENCE_MS } from '../connection.ts'
import { JOURNAL_FILES } from './recover.ts'

let rig: JournalRig
beforeEach(async () => {
  rig = await openJournal()
})
afterEach(() => rig.close())

describe('the journal', () => {
  it('keeps events out of the database for a while, and reads them all the same', async () => {
    const run = await rig.running()
    for (const seq of [1, 2, 3]) expect(await rig.log.append(line(run, seq))).toBe('durable')
    expect(await rig.rows(run)).toEqual([])
    expect(await rig.journal.reads.end(run)).toMatchObject({ seq: 3, part: 0 })
    expect(await allOf(rig.journal.reads, run)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
    expect(textsOf(await rig.journal.reads.chunks(run, 2, 64))).toEqual(['{"n":3}'])
    expect(await rig.journal.reads.chunks(run, 3, 64)).toEqual([])
    expect(Buffer.from((await rig.journal.reads.event(run, 2))!).toString()).toBe('{"n":2}\n')
    expect(await rig.journal.reads.event(run, 4)).toBeUndefined()
  })

  it('brings them into the database as few rows when it is closed, and leaves no file', async () => {
    const run = await rig.running()
    for (const seq of [1, 2, 3]) await rig.log.append(line(run, seq))
    await rig.journal.close()
    expect(await rig.rows(run)).toEqual([[1, 0]])
    expect(await allOf(databaseReads(rig.database.db), run)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
    expect(await readdir(rig.journalDir)).toEqual([])
  })

  it('ends a run with everything that it has of it, in one transaction', async () => {
    const run = await rig.running()
    await rig.log.append(line(run, 1))
    await rig.log.append(appendOf(run, [mark(2, { kind: 'stderr' })]))
    expect(await rig.log.append(appendOf(run, [mark(3, { kind: 'exit' })], { ending: ENDED }))).toBe('durable')
    expect(await rig.rows(run)).toEqual([[1, 0], [2, 0], [3, 0]])
    expect(await rig.row(run)).toMatchObject({ state: 'failed', lastSeq: 3, eventBytes: 8 + 17 + 15 })
    expect(await rig.log.append(line(run, 4))).toBe('fenced_out')
  })

  it('takes nothing under a fence that is not the run’s, and nothing of a run that has not begun', async () => {
    const [run, leased] = [await rig.running(), await rig.run()]
    expect(await rig.log.append({ ...line(run, 1), fence: 2 })).toBe('fenced_out')
    expect(await rig.log.append(line('run_nobody', 1))).toBe('fenced_out')
    expect(await rig.log.append(line(leased, 1))).toBe('durable')
    expect(await rig.rows(leased)).toEqual([[1, 0]])
  })

  it('keeps the order of a run whose events take different ways in one group', async () => {
    const run = await rig.run()
    const outcomes = await Promise.all([
      rig.log.append(appendOf(run, [], { running: true })),
      rig.log.append(line(run, 1)),
      rig.log.append(appendOf(run, [part(2, 0, 2, 'a')])),
      rig.log.append(appendOf(run, [part(2, 1, 2, 'b')])),
      rig.log.append(line(run, 3)),
    ])
    expect(outcomes).toEqual(Array.from({ length: 5 }, () => 'durable'))
    await rig.log.append(line(run, 4))
    await rig.log.append(line(run, 5, 'x'.repeat(20_000)))
    await rig.log.append(line(run, 6))
    expect(await allOf(rig.journal.reads, run)).toEqual(['{"n":1}', 'ab', '{"n":3}', '{"n":4}', 'x'.repeat(20_000), '{"n":6}'])
    expect(await rig.rows(run)).toEqual([[1, 0], [2, 0], [2, 1], [3, 0], [4, 0], [5, 0]])
  })

  it('uses its files again and again, and loses nothing', async () => {
    const ids = [await rig.running(), await rig.running()]
    for (let seq = 1; seq <= 200; seq++) await Promise.all(ids.map((run) => rig.log.append(line(run, seq, 'y'.repeat(100)))))
    for (const run of ids) expect(await allOf(rig.journal.reads, run)).toHaveLength(200)
    expect((await rig.rows(ids[0]!)).length).toBeGreaterThan(3)
    expect((await readdir(rig.journalDir)).toSorted()).toEqual([...JOURNAL_FILES])
  })

  it('has events in the database when they are deleted with their run', async () => {
    const run = await rig.running()
    await rig.log.append(line(run, 1))
    await rig.log.append(appendOf(run, [mark(2, { kind: 'exit' })], { ending: ENDED }))
    await rig.database.db.delete(runEvents).where(eq(runEvents.run, run))
    expect(await allOf(rig.journal.reads, run)).toEqual([])
  })

  it('refuses appends while the database takes nothing and the files are full, and goes on when it does', async () => {
    const run = await rig.running()
    await rig.log.append(line(run, 1))
    const release = await lockWrites(rig.path)
    let kept = 1
    const refused = await (async () => {
      for (;;) {
        try {
          await rig.log.append(line(run, kept + 1, 'z'.repeat(1_000)))
          kept++
        } catch (error) {
          return error
        }
      }
    })()
    expect(refused).toMatchObject({ code: 'storage' })
    expect(kept).toBeGreaterThan(4)
    expect((await rig.journal.reads.end(run)).seq).toBe(kept)
    await release()
    expect(await rig.log.append(line(run, kept + 1))).toBe('durable')
    expect(await allOf(rig.journal.reads, run)).toHaveLength(kept + 1)
  })

  it('has the database keep what no file takes, and answers for each what else was in its group', async () => {
    await mkdir(join(rig.journalDir, JOURNAL_FILES[0]))
    const [ended, run] = [await rig.running(), await rig.running()]
    const end = appendOf(ended, [mark(1, { kind: 'exit' })], { ending: ENDED })
    expect(await Promise.all([rig.log.append(end), rig.log.append(line(run, 1))])).toEqual(['durable', 'durable'])
    expect(await rig.rows(run)).toEqual([[1, 0]])
    await rm(join(rig.journalDir, JOURNAL_FILES[0]), { recursive: true })
    expect(await rig.log.append(line(run, 2))).toBe('durable')
    expect(await rig.rows(run)).toEqual([[1, 0]])
  })

  it('rejects only what nobody keeps, beside what is kept', async () => {
    await mkdir(join(rig.journalDir, JOURNAL_FILES[0]))
    const [ended, run] = [await rig.running(), await rig.running()]
    await rig.refuse(run)
    const end = appendOf(ended, [mark(1, { kind: 'exit' })], { ending: ENDED })
    const outcomes = await Promise.allSettled([rig.log.append(end), rig.log.append(line(run, 1))])
    expect(outcomes).toMatchObject([{ value: 'durable' }, { reason: { name: 'Unwritable' } }])
    await rm(join(rig.journalDir, JOURNAL_FILES[0]), { recursive: true })
  })

  it('keeps each event once when the database refuses what else was in its group', async () => {
    const [bad, run] = [await rig.running(), await rig.running()]
    await rig.refuse(bad)
    const loud = line(bad, 1, 'x'.repeat(20_000))
    const outcomes = await Promise.allSettled([line(run, 1), loud, line(run, 2)].map((append) => rig.log.append(append)))
    expect(outcomes).toMatchObject([{ value: 'durable' }, { reason: { name: 'Unwritable' } }, { value: 'durable' }])
    expect(await rig.log.append(line(run, 3))).toBe('durable')
    expect(await allOf(rig.journal.reads, run)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
    await rig.journal.close()
    expect(await allOf(databaseReads(rig.database.db), run)).toEqual(['{"n":1}', '{"n":2}', '{"n":3}'])
  })

  it('keeps small events while the database takes nothing, and says so of what was loud beside them', async () => {
    const [quiet, loud] = [await rig.running(), await rig.running()]
    await Promise.all([quiet, loud].map((run) => rig.log.append(line(run, 1))))
    const release = await lockWrites(rig.path)
    const both = [line(quiet, 2), line(loud, 2, 'x'.repeat(20_000))].map((append) => rig.log.append(append))
    expect(await Promise.allSettled(both)).toMatchObject([{ value: 'durable' }, { reason: { code: 'storage' } }])
    await release()
    expect(await allOf(rig.journal.reads, quiet)).toEqual(['{"n":1}', '{"n":2}'])
    expect(await allOf(rig.journal.reads, loud)).toEqual(['{"n":1}'])
  })

  it('lets go of what the database refuses of one run, and says so, as all others would wait for it', async () => {
    const [bad, good] = [await rig.running(), await rig.running()]
    await Promise.all([bad, good].map((run) => rig.log.append(line(run, 1))))
    await rig.refuse(bad)
    for (let seq = 2; seq < 40; seq++) expect(await rig.log.append(line(good, seq, 'z'.repeat(1_000)))).toBe('durable')
    expect(await allOf(rig.journal.reads, good)).toHaveLength(39)
    expect(rig.said).toContain('events of a run are lost: the database refuses them')
  })

  it('ends no run as if it were whole of which the database refuses what was held, little or much of it', async () => {
    for (const count of [20, 120]) {
      await rig.reopen(16 * 1024 * 1024)
      const run = await rig.running()
      for (let seq = 1; seq <= count; seq++) await rig.log.append(line(run, seq, 'y'.repeat(10_000)))
      const release = await rig.refuse(run, 1)
      const whole = appendOf(run, [mark(count + 1, { kind: 'exit' })], { ending: { ...ENDED, state: 'succeeded' } })
      await expect(rig.log.append(whole)).rejects.toMatchObject({ name: 'Unwritable' })
      expect(await rig.row(run)).toMatchObject({ state: 'running', endedAt: null })
      await release()
    }
  })

  it('takes no more of a run that lacks something, but its loss', async () => {
    await rig.reopen(1_000)
    const [bad, good] = [await rig.running(), await rig.running()]
    await rig.log.append(line(bad, 1))
    const release = await rig.refuse(bad, 1)
    for (let seq = 1; !rig.said.includes('events of a run are lost: the database refuses them'); seq++) await rig.log.append(line(good, seq, 'z'.repeat(500)))
    await release()
    await expect(rig.log.append(line(bad, 2))).rejects.toMatchObject({ name: 'Unwritable' })
    const loss = appendOf(bad, [mark(2, { kind: 'gap' }), mark(3, { kind: 'exit' })], { ending: { ...ENDED, state: 'lost' }, loss: true })
    expect(await rig.log.append(loss)).toBe('durable')
    expect(await rig.row(bad)).toMatchObject({ state: 'lost' })
  })

  it.each([
    ['what goes with a loud event', 1024 * 1024, [3, 20_000]],
    ['what a full file holds', 200, [12, 60]],
  ])('loses nothing and nobody when the database has kept %s and reports it as failed', async (_what, fileBytes, [count, bytes]) => {
    await rig.reopen(fileBytes)
    const run = await rig.running()
    for (const seq of [1, 2, 3]) expect(await rig.log.append(line(run, seq, 'y'.repeat(60)))).toBe('durable')
    const trouble = keepAndFail(rig.database, /INSERT INTO "run_events"/)
    for (let seq = 4; trouble.count === 0 || seq <= count!; ) {
      await rig.log.append(line(run, seq, 'y'.repeat(bytes!))).catch(() => 'reported as failed')
      // Whoever sent it asks where the log ends, and goes on from there.
      seq = (await rig.journal.reads.end(run)).seq + 1
    }
    const { seq } = await rig.journal.reads.end(run)
    expect(await rig.log.append(line(run, seq + 1))).toBe('durable')
    expect(await allOf(rig.journal.reads, run)).toHaveLength(seq + 1)
    expect(await rig.log.append(appendOf(run, [mark(seq + 2, { kind: 'exit' })], { ending: ENDED }))).toBe('durable')
    expect(await allOf(databaseReads(rig.database.db), run)).toHaveLength(seq + 2)
    expect(rig.said).not.toContain('events of a run are lost: the database refuses them')
  })

  it('takes it for trouble, and for the fault of no run, when the database takes nothing at all', async () => {
    const ids = [await rig.run(), await rig.run()]
    await rig.database.db.run(sql`ALTER TABLE run_events RENAME TO elsewhere`)
    const appends = ids.map((run) => appendOf(run, [mark(1, { kind: 'started' })], { running: true }))
    const outcomes = await Promise.allSettled(appends.map((append) => rig.log.append(append)))
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && (outcome.reason as Error).name)).toEqual(['LibsqlError', 'LibsqlError'])
    await rig.database.db.run(sql`ALTER TABLE elsewhere RENAME TO run_events`)
    expect(await Promise.all(appends.map((append) => rig.log.append(append)))).toEqual(['durable', 'durable'])
  })

  it('is settled only when everything appended until then is durable or has failed', async () => {
    const [bad, good, plain] = [await rig.running(), await rig.run(), await rig.running()]
    await rig.log.append(line(plain, 1))
    await rig.refuse(bad)
    const said: string[] = []
    for (const append of [appendOf(bad, [mark(1, {})], { running: true }), appendOf(good, [mark(1, {})], { running: true }), line(plain, 2)]) {
      rig.log.append(append).then((outcome) => said.push(outcome), (error: Error) => said.push(error.name))
    }
    await rig.log.settled()
    expect(said.toSorted()).toEqual(['Unwritable', 'durable', 'durable'])
  })

  it('keeps events while the database is asked in vain to take what a full file holds', async () => {
    const run = await rig.running()
    for (let seq = 1; seq <= 8; seq++) await rig.log.append(line(run, seq, 'y'.repeat(500)))
    const release = await lockWrites(rig.path)
    // This one is the first in the other file; what the full one holds is on its way to the database from here on.
    await rig.log.append(line(run, 9))
    const since = performance.now()
    for (let seq = 10; seq <= 20; seq++) await rig.log.append(line(run, seq))
    expect(performance.now() - since).toBeLessThan(PATIENCE_MS / 2)
    await release()
    expect(await allOf(rig.journal.reads, run)).toHaveLength(20)
  })

  it('leaves its files where the database does not take what they hold', async () => {
    await rig.log.append(line(await rig.running(), 1))
    const release = await lockWrites(rig.path)
    await rig.journal.close()
    await release()
    expect((await readdir(rig.journalDir)).toSorted()).toEqual([...JOURNAL_FILES])
  })

  it('refuses what comes when it is being closed', async () => {
    const run = await rig.running()
    await rig.log.append(line(run, 1))
    const closing = rig.journal.close()
    await expect(rig.log.append(line(run, 2))).rejects.toMatchObject({ code: 'storage' })
    await closing
    expect(await rig.rows(run)).toEqual([[1, 0]])
  })
})
