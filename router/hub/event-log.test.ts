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

  it('refuses the one append that the database refuses, with what its run has behind it, and keeps all others', async () => {
    const [run, other, third] = [await rig.run(), await rig.run(), await rig.run()]
    await log.append(line(run, 1))
    // The second one breaks the key of the table; more follow than fit the same commit.
    const spoilt = [line(run, 1), line(run, 2)]
    const behind = Array.from({ length: 600 }, (_, i) => line(other, i + 2))
    const outcomes = await Promise.allSettled([line(other, 1), ...spoilt, line(third, 1), ...behind].map((append) => log.append(append)))
    const [first, refused, hole, ...rest] = outcomes
    expect(refused).toMatchObject({ status: 'rejected', reason: { name: 'Unwritable' } })
    expect(hole).toEqual({ status: 'fulfilled', value: 'fenced_out' })
    for (const outcome of [first, ...rest]) expect(outcome).toEqual({ status: 'fulfilled', value: 'durable' })
    expect((await rig.rows(other)).length).toBe(601)
    expect(await rig.rows(third)).toEqual([[1, 0]])
    expect(await rig.rows(run)).toEqual([[1, 0]])
    expect(await log.append(line(run, 2))).toBe('durable')
  })

  it('refuses an ending with a number that is none, and takes the next one', async () => {
    const [run, other] = [await rig.run(), await rig.run()]
    const ending = { state: 'failed' as const, error: undefined, result: undefined, durationMs: 0, provider: undefined }
    const forged = appendOf(run, [mark(1, {})], { ending: { ...ending, costUsd: Infinity } })
    const outcomes = await Promise.allSettled([forged, line(other, 1)].map((append) => log.append(append)))
    expect(outcomes).toMatchObject([{ reason: { name: 'Unwritable' } }, { value: 'durable' }])
    expect(await log.append(appendOf(run, [mark(1, {})], { ending: { ...ending, costUsd: undefined } }))).toBe('durable')
  })

  it('keeps nothing of a group that met trouble nor of what waits behind it', async () => {
    const run = await rig.run()
    const commits: number[] = []
    const broken = new GroupCommitLog((appends) => {
      commits.push(appends.length)
      return Promise.reject(new Error('SQLITE_FULL: database or disk is full'))
    }, nextTurn)
    const outcomes = await Promise.allSettled(Array.from({ length: 300 }, (_, i) => broken.append(line(run, i + 1))))
    expect(outcomes.filter((o) => o.status === 'fulfilled')).toEqual([])
    expect(commits).toEqual([256])
  })

  it('makes larger groups of what weighs less', async () => {
    const sizes: number[] = []
    const weighing = new GroupCommitLog(
      (appends) => Promise.resolve(appends.map(() => 'durable' as const)).finally(() => sizes.push(appends.length)),
      nextTurn,
      ({ rows }) => (rows.length > 0 ? 0.25 : 1),
    )
    await Promise.all(Array.from({ length: 1_300 }, (_, i) => weighing.append(i < 1_100 ? line('run', i) : appendOf('run', []))))
    expect(sizes).toEqual([1_024, 276])
  })

  it('takes it for trouble when nothing at all is taken', async () => {
    const broken = new GroupCommitLog(() => Promise.reject(new Error('SQLITE_ERROR: no such table: run_events')), nextTurn)
    await expect(broken.append(line('run', 1))).rejects.toThrow('no such table')
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
