import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { eq } from 'drizzle-orm'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runs } from '../../../drizzle/schema.ts'
import { allOf, ENDED, journalCommit, line, noting, openJournal, type JournalRig } from '../../../test/kit/journal.ts'
import { appendOf, mark, part } from '../../../test/kit/log.ts'
import type { Append } from '../../core/runner-core.ts'
import type { Outcome } from '../../hub/event-log.ts'
import { databaseReads } from '../../store/run-events.ts'
import { JOURNAL_FILES, recover } from './recover.ts'

let rig: JournalRig
beforeEach(async () => {
  rig = await openJournal()
})
afterEach(() => rig.close())

describe('after a crash', () => {
  it('what was durable is there, and nothing of it twice', async () => {
    const [run, ended] = [await rig.running(), await rig.running()]
    for (const seq of [1, 2]) await Promise.all([run, ended].map((one) => rig.log.append(line(one, seq))))
    await rig.log.append(appendOf(ended, [mark(3, { kind: 'exit' })], { ending: ENDED }))
    const first = await rig.crashed()
    expect(await allOf(databaseReads(first.database.db), run)).toEqual(['{"n":1}', '{"n":2}'])
    expect(await allOf(databaseReads(first.database.db), ended)).toHaveLength(3)
    await recover({ dir: rig.journalDir, db: first.database.db, commit: journalCommit(first.database), log: noting(rig.said) })
    expect(await allOf(databaseReads(first.database.db), run)).toEqual(['{"n":1}', '{"n":2}'])
    await first.close()
  })

  it('one run that the database refuses keeps nobody from starting', async () => {
    const [bad, good] = [await rig.running(), await rig.running()]
    await Promise.all([bad, good].map((run) => rig.log.append(line(run, 1))))
    await rig.refuse(bad)
    const after = await rig.crashed()
    expect(await allOf(databaseReads(after.database.db), good)).toEqual(['{"n":1}'])
    expect(rig.said).toContain('events of a run are lost: the database refuses them')
    await after.close()
  })

  it('many runs are few transactions', async () => {
    await rig.reopen(1024 * 1024)
    const ids = await Promise.all(Array.from({ length: 300 }, () => rig.running()))
    for (const seq of [1, 2]) await Promise.all(ids.map((run) => rig.log.append(line(run, seq, 'y'))))
    const groups: number[] = []
    const commit = journalCommit(rig.database)
    await recover({
      dir: rig.journalDir,
      db: rig.database.db,
      log: noting(rig.said),
      commit(appends) {
        groups.push(appends.length)
        return commit(appends)
      },
    })
    expect(groups).toEqual([256, 44])
  })

  it('a file that cannot be looked at is not taken for one that is not there', async () => {
    const elsewhere = join(rig.journalDir, 'elsewhere')
    await mkdir(elsewhere)
    await symlink(JOURNAL_FILES[0], join(elsewhere, JOURNAL_FILES[0]))
    await expect(rig.opened(elsewhere)).rejects.toMatchObject({ code: 'ELOOP' })
  })

  it('a run that was given to another runner since has nothing of the first one', async () => {
    const run = await rig.running()
    await rig.log.append(line(run, 1))
    await rig.database.db.update(runs).set({ fence: 2 }).where(eq(runs.id, run))
    const after = await rig.crashed()
    expect(await allOf(databaseReads(after.database.db), run)).toEqual([])
    await after.close()
  })

  /** Any schedule of appends of several runs, endings and crashes: each log is what was answered `durable`, in its order. */
  it('every log is what was said to be durable, whenever it comes', async () => {
    const what = fc.constantFrom('line', 'line', 'line', 'mark', 'part', 'loud', 'end')
    const step = fc.record({ run: fc.nat(2), what, together: fc.boolean(), crash: fc.nat(6) })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        const begun = async () => ({ run: await rig.running(), seq: 0, durable: [] as string[], over: false })
        const logs = await Promise.all([begun(), begun(), begun()])
        let pending: Promise<unknown>[] = []
        for (const { run: at, what: does, together, crash } of steps) {
          const its = logs[at]!
          if (its.over) continue
          const add = (append: Append, text: string) => {
            const answered = rig.log.append(append).then((outcome: Outcome) => outcome === 'durable' && its.durable.push(text))
            pending.push(answered)
          }
          const seq = ++its.seq
          const text = does === 'loud' ? `${seq}`.padEnd(20_000, '.') : `${seq}`.padEnd(300, '.')
          if (does === 'line' || does === 'loud') add(line(its.run, seq, text), text)
          else if (does === 'part') {
            pending.push(rig.log.append(appendOf(its.run, [part(seq, 0, 2, text)])))
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
          const after = await rig.crashed()
          for (const one of logs) expect(await allOf(databaseReads(after.database.db), one.run, 1_000)).toEqual(one.durable)
          await after.close()
        }
        await Promise.all(pending)
        for (const one of logs) expect(await allOf(rig.journal.reads, one.run, 1_000)).toEqual(one.durable)
      }),
      { numRuns: 25 },
    )
  })
})
