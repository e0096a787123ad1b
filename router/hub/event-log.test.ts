import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockWrites } from '../../test/kit/lock.ts'
import { appendOf, lines, mark, nextTurn, openLog, type LogRig } from '../../test/kit/log.ts'
import type { Platform } from '../ports.ts'
import { GroupCommitLog, sqlCommit } from './event-log.ts'

const platform = { now: () => 7 } as Platform

let rig: LogRig
let log: GroupCommitLog
beforeEach(async () => {
  rig = await openLog()
  log = new GroupCommitLog(sqlCommit(rig.database, platform), nextTurn)
})
afterEach(() => rig.close())

const line = (run: string, seq: number) => appendOf(run, [lines(seq, [`{"n":${seq}}`])])

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
      log.append(
        appendOf(ended, [mark(1, {})], { ending: { state: 'failed', error: undefined, result: undefined, durationMs: 0, costUsd: 0, provider: undefined } }),
      ),
      log.append(line(ended, 2)),
      log.append(line(run, 2)),
    ])
    expect(outcomes).toEqual(['durable', 'fenced_out', 'durable', 'fenced_out', 'durable'])
    expect(await rig.rows(run)).toEqual([
      [1, 0],
      [2, 0],
    ])
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
    const release = await lockWrites(rig.path)
    const waiting = [log.append(line(run, 1)), log.append(line(run, 2))]
    // The log commits in the turn of the event loop after the appends, so by now it has met the lock.
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
    await release()
    expect(await Promise.all(waiting)).toEqual(['durable', 'durable'])
    expect(await log.append(line(run, 3))).toBe('durable')
    expect(await rig.rows(run)).toEqual([
      [1, 0],
      [2, 0],
      [3, 0],
    ])
  })

  it('gives up on a lock that is never released, and works again when it is', async () => {
    const run = await rig.run()
    const release = await lockWrites(rig.path)
    await expect(log.append(line(run, 1))).rejects.toMatchObject({ code: 'storage' })
    await release()
    expect(await log.append(line(run, 1))).toBe('durable')
  })

  it('is settled although more is appended during every commit', async () => {
    let commits = 0
    const busy = new GroupCommitLog(async (appends) => {
      if (++commits < 100) void busy.append(line('run', commits))
      await new Promise((resolve) => setImmediate(resolve))
      return appends.map(() => 'durable')
    }, nextTurn)
    void busy.append(line('run', 0))
    await busy.settled()
    expect(commits).toBeLessThan(3)
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
