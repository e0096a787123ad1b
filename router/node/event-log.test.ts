import { createClient } from '@libsql/client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { appendOf, lines, mark, openLog, type LogRig } from '../../test/kit/log.ts'
import { until } from '../../test/kit/wait.ts'
import type { Platform } from '../ports.ts'
import type { Database } from './database.ts'
import { GroupCommitLog, sqlCommit } from './event-log.ts'

const platform = { now: () => 7 } as Platform

let rig: LogRig
let log: GroupCommitLog
let heals = 0
beforeEach(async () => {
  rig = await openLog()
  heals = 0
  const { database } = rig
  const counting: Database = {
    ...database,
    heal: () => {
      heals++
      return database.heal()
    },
  }
  log = new GroupCommitLog(sqlCommit(counting, platform))
})
afterEach(() => rig.close())

const line = (run: string, seq: number) => appendOf(run, [lines(seq, [`{"n":${seq}}`])])

/** Another connection that holds the write lock until it is released. */
async function lockOut(): Promise<() => Promise<void>> {
  const other = createClient({ url: `file:${rig.path}` })
  const transaction = await other.transaction('write')
  return async () => {
    await transaction.rollback()
    other.close()
  }
}

describe('the event log', () => {
  it('keeps what several runs append at once, and answers in the order it was asked', async () => {
    const runs = await Promise.all([rig.run(), rig.run(), rig.run()])
    const answered: string[] = []
    const appends = Array.from({ length: 900 }, (_, i) => line(runs[i % 3]!, Math.floor(i / 3) + 1))
    await Promise.all(appends.map((append, i) => log.append(append).then((outcome) => answered.push(`${i} ${outcome}`))))
    expect(answered).toEqual(appends.map((_, i) => `${i} durable`))
    const expected = Array.from({ length: 300 }, (_, i) => [i + 1, 0])
    for (const run of runs) expect(await rig.rows(run)).toEqual(expected)
  })

  it('tells each append of a group what became of it', async () => {
    const [run, ended] = [await rig.run(), await rig.run()]
    const outcomes = await Promise.all([
      log.append(line(run, 1)),
      log.append({ ...line(run, 2), fence: 9 }),
      log.append(appendOf(ended, [mark(1, {})], { ending: { state: 'failed', error: undefined, result: undefined, durationMs: 0 } })),
      log.append(line(ended, 2)),
      log.append(line(run, 2)),
    ])
    expect(outcomes).toEqual(['durable', 'fenced_out', 'durable', 'fenced_out', 'durable'])
    expect(await rig.rows(run)).toEqual([[1, 0], [2, 0]])
    expect(await rig.row(ended)).toMatchObject({ state: 'failed', endedAt: 7 })
  })

  it('keeps nothing of a group that failed nor of what waits behind it, and takes the same again', async () => {
    const [run, other] = [await rig.run(), await rig.run()]
    await log.append(line(run, 1))
    // The second one breaks the key of the table; more follow than fit the same commit.
    const appends = [line(other, 1), line(run, 1), ...Array.from({ length: 600 }, (_, i) => line(other, i + 2))]
    const outcomes = await Promise.allSettled(appends.map((append) => log.append(append)))
    expect(outcomes.filter((o) => o.status === 'fulfilled')).toEqual([])
    expect(await rig.rows(other)).toEqual([])
    expect(await log.append(line(other, 1))).toBe('durable')
    expect(await log.append(line(run, 2))).toBe('durable')
  })

  it('waits for a lock that somebody else holds', async () => {
    const run = await rig.run()
    const release = await lockOut()
    const waiting = [log.append(line(run, 1)), log.append(line(run, 2))]
    await until('the log to have met the lock', () => heals >= 2)
    await release()
    expect(await Promise.all(waiting)).toEqual(['durable', 'durable'])
    expect(await log.append(line(run, 3))).toBe('durable')
    expect(await rig.rows(run)).toEqual([[1, 0], [2, 0], [3, 0]])
  })

  it('gives up on a lock that is never released, and works again when it is', async () => {
    const run = await rig.run()
    const release = await lockOut()
    await expect(log.append(line(run, 1))).rejects.toThrow(/locked|busy|failed/i)
    await release()
    expect(await log.append(line(run, 1))).toBe('durable')
  })

  it('is settled when everything that was appended is durable', async () => {
    const run = await rig.run()
    await log.settled()
    const answered: string[] = []
    for (const seq of [1, 2, 3]) void log.append(line(run, seq)).then((outcome) => answered.push(outcome))
    await log.settled()
    expect(answered).toEqual(['durable', 'durable', 'durable'])
  })
})
