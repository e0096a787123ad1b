import { describe, expect, it } from 'vitest'
import { appendOf, lines, mark, nextTurn } from '../../../test/kit/log.ts'
import type { Append } from '../../core/runner-core.ts'
import { Held, type WholeRow } from './held.ts'
import { Settler } from './settler.ts'

const said: string[] = []
const log = { info: () => undefined, warn: () => undefined, error: (_: object, text: string) => void said.push(text) }

const fill = (held: Held, run: string, rows: number, bytes: number) => {
  for (let seq = 1; seq <= rows; seq++) held.add(run, 1, lines(seq, ['x'.repeat(bytes - 1)]) as WholeRow)
}

/** Before a database that keeps everything, after a while. */
function rigOf({ tookMs = 0 } = {}) {
  const held = new Held()
  const commits: (readonly Append[])[] = []
  const settler = new Settler(held, {
    log,
    nextTurn,
    endOf: () => Promise.resolve(0),
    async commit(appends) {
      for (const since = performance.now(); performance.now() - since < tookMs; ) await nextTurn()
      commits.push(appends)
      return appends.map(() => 'durable')
    },
  })
  return {
    held,
    settler,
    commits,
    hold: (run: string, rows: number, bytes: number) => fill(held, run, rows, bytes),
  }
}

const bytesOf = (appends: readonly Append[]) => appends.flatMap(({ rows }) => rows).reduce((sum, { bytes }) => sum + bytes.length, 0)
const seqsOf = (commits: readonly (readonly Append[])[], run: string) =>
  commits.flat().filter((append) => append.run === run).flatMap(({ rows }) => rows.flatMap(({ first, count }) => Array.from({ length: count }, (_, i) => first + i)))

describe('what is held', () => {
  it('goes ahead of what moves its run, in pieces where it is much, so that others come between', async () => {
    const { held, settler, commits, hold } = rigOf()
    hold('loud', 3_000, 1_000)
    hold('other', 3, 1_000)
    const outcomes = await settler.with([appendOf('loud', [mark(3_001, { kind: 'exit' })]), appendOf('quiet', [mark(1, { kind: 'exit' })])])
    expect(outcomes).toEqual(['durable', 'durable'])
    expect(Math.max(...commits.map(bytesOf))).toBeLessThan(1_100_000)
    expect(seqsOf(commits, 'loud')).toEqual(Array.from({ length: 3_001 }, (_, i) => i + 1))
    expect(commits.at(-1)!.map(({ run }) => run)).toContain('quiet')
    expect(held.runs()).toEqual(['other'])
    expect(held.bytesOf(['loud', 'other'])).toBe(3_000)
  })

  it('goes with what moves its run in one transaction where it is little', async () => {
    const { settler, commits, hold } = rigOf()
    hold('run', 20, 1_000)
    await settler.with([appendOf('run', [mark(21, { kind: 'exit' })])])
    expect(commits).toHaveLength(1)
    expect(seqsOf(commits, 'run')).toEqual(Array.from({ length: 21 }, (_, i) => i + 1))
  })

  it('is brought with rests between its pieces, until somebody waits for the end of it', async () => {
    const tookMs = 200
    const { settler, commits, hold } = rigOf({ tookMs })
    hold('run', 2_000, 1_000)
    const hurry = new AbortController()
    const settled = settler.settle(hurry.signal)
    while (commits.length === 0) await nextTurn()
    const since = performance.now()
    while (performance.now() - since < 2 * tookMs) await nextTurn()
    expect(commits).toHaveLength(1)
    hurry.abort()
    expect(await settled).toBe(true)
    expect(seqsOf(commits, 'run')).toHaveLength(2_000)
  })
})

/** A database of which a transaction may be refused, or be kept and reported as failed. `n`: the how many'th it is. */
function faultyRig(fault: (appends: readonly Append[], n: number) => 'kept' | 'refused' | undefined) {
  said.length = 0
  const held = new Held()
  const kept = new Set<number>()
  let n = 0
  const refuse = () => Promise.reject(Object.assign(new Error('constraint failed'), { code: 'SQLITE_CONSTRAINT' }))
  const settler = new Settler(held, {
    log,
    nextTurn,
    endOf: () => Promise.resolve(Math.max(0, ...kept)),
    async commit(appends) {
      await nextTurn()
      const what = fault(appends, ++n)
      const seqs = seqsOf([appends], 'run')
      if (what === 'refused' || seqs.some((seq) => kept.has(seq))) return refuse()
      for (const seq of seqs) kept.add(seq)
      if (what === 'kept') throw Object.assign(new Error('disk I/O error'), { code: 'SQLITE_IOERR' })
      return appends.map(() => 'durable')
    },
  })
  const hurry = AbortSignal.abort()
  return { settler, hold: (rows: number, bytes: number) => fill(held, 'run', rows, bytes), kept, settle: () => settler.settle(hurry), end: (seq: number) => settler.with([appendOf('run', [mark(seq, { kind: 'exit' })])]) }
}

const LOST = 'events of a run are lost: the database refuses them'
const hasFirst = (appends: readonly Append[]) => seqsOf([appends], 'run').includes(1)

describe('the end of a run while what is held is being settled', () => {
  it.each([1, 2, 3])('does not take what was kept and reported as failed for refused, in transaction %i', async (which) => {
    const { settler, hold, kept, settle, end } = faultyRig((_, n) => (n === which ? 'kept' : undefined))
    hold(1_500, 1_000)
    // Whose transaction it was: the one hears that it failed, and the other finds it kept.
    const [ended, settled] = await Promise.allSettled([end(1_501), settle()])
    expect([ended.status === 'rejected', settled.status === 'fulfilled' && !settled.value].filter(Boolean)).toHaveLength(1)
    const outcome = ended.status === 'fulfilled' ? ended.value : await end(1_501)
    expect(outcome).toEqual(['durable'])
    expect(said).not.toContain(LOST)
    expect([kept.size, settler.isSound('run')]).toEqual([1_501, true])
  })

  it('is not kept as if nothing were missing, where what is before it was refused meanwhile', async () => {
    const { settler, hold, kept, settle, end } = faultyRig((appends) => (hasFirst(appends) ? 'refused' : undefined))
    hold(1_500, 100)
    const ended = end(1_501)
    ended.catch(() => undefined)
    await settle()
    await expect(ended).rejects.toThrow('constraint failed')
    expect([kept.size, settler.isSound('run')]).toEqual([0, false])
  })

  it('leaves no hole: what is behind refused events goes with them', async () => {
    const { settler, hold, kept, settle } = faultyRig((appends) => (hasFirst(appends) ? 'refused' : undefined))
    hold(1_500, 1_000)
    await settle()
    expect(said).toEqual([LOST])
    expect([kept.size, settler.isSound('run')]).toEqual([0, false])
  })
})
