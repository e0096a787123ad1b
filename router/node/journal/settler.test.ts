import { describe, expect, it } from 'vitest'
import { appendOf, lines, mark, nextTurn } from '../../../test/kit/log.ts'
import type { Append } from '../../core/runner-core.ts'
import { Held, type WholeRow } from './held.ts'
import { Settler } from './settler.ts'

const log = { info: () => undefined, warn: () => undefined, error: () => undefined }

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
    hold: (run: string, rows: number, bytes: number) => {
      for (let seq = 1; seq <= rows; seq++) held.add(run, 1, lines(seq, ['x'.repeat(bytes - 1)]) as WholeRow)
    },
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
