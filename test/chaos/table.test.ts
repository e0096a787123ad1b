import { describe, expect, it } from 'vitest'
import type { Watch } from './oracle.ts'
import { gapNumbers, gaps, quantile, table, type Row } from './table.ts'

const watch = (...at: number[]): Watch => ({ what: 'live', after: 0, finished: true, events: at.map((t, i) => ({ id: i + 1, event: 'message', sha: '', at: t })) })
const row: Row = { fault: 'cuts', runs: 3, refused: 0, endings: { succeeded: 2, cancelled: 1 }, injections: 1, violations: [], gap: { n: 2, p50: 10, p99: 1_500, max: 1_500 }, notes: { 'runner back after s': 0.26 } }

describe('the numbers of a chaos run', () => {
  it('are nearest ranks', () => {
    expect([0.5, 0.99, 1].map((q) => quantile([4, 1, 3, 2], q))).toEqual([2, 4, 4])
    expect(quantile([], 0.5)).toBe(0)
  })

  it('take the longest silence after a fault, of those who were reading when it struck', () => {
    expect(gaps([watch(0, 10, 70, 80), watch(0, 10), watch(60, 70)], [20])).toEqual([60])
    expect(gaps([watch(0, 10, 70, 80, 200)], [20, 75])).toEqual([60, 120])
  })

  it('do not count a silence that was over before', () => {
    expect(gaps([watch(0, 50, 60, 70)], [55])).toEqual([10])
    expect(gapNumbers([1, 2, 3])).toEqual({ n: 3, p50: 2, p99: 3, max: 3 })
  })

  it('are printed in a line each, with a reason where there are none', () => {
    const text = table([row, { ...row, fault: 'clock-jumps', skipped: 'libfaketime is not installed' }])
    expect(text.split('\n')).toEqual([
      expect.stringMatching(/^fault +runs +injected +violations +gap p50 +gap p99 +gap max$/),
      expect.stringMatching(/^cuts +3 +1 +0 +0\.01 s +1\.50 s +1\.50 s +1 cancelled, runner back after 0\.3 s$/),
      expect.stringMatching(/^clock-jumps .* skipped: libfaketime is not installed$/),
    ])
  })
})
