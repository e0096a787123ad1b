import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Rate } from '../../shared/tenant-settings.ts'
import { blocksOf, burstMs, decide, intervalMs, room } from './gcra.ts'

const START = Date.UTC(2026, 10, 21)
const rates = fc.record({
  rate: fc.oneof(fc.double({ min: 0.001, max: 20, noNaN: true }), fc.constantFrom(1, 3, 7, 60, 1_000, 1_000_000)),
  burst: fc.integer({ min: 1, max: 30 }),
})
/** Milliseconds between one request and the next, in units of the limit's own interval. */
const gaps = (min: number) => fc.array(fc.oneof(fc.constant(0), fc.double({ min, max: 3, noNaN: true })), { maxLength: 200 })

/** What became of requests at these gaps: when each was let through, on a clock that only forward steps of time count for. */
function play(rate: Rate, steps: readonly number[]): { at: number; ok: boolean; tat: number; before: number }[] {
  const interval = intervalMs(rate)
  let tat = 0
  let now = START
  let passed = 0
  return steps.map((step) => {
    const ms = Math.trunc(step * interval)
    now += ms
    passed += Math.max(0, ms)
    const before = tat
    const verdict = decide(tat, now, rate)
    tat = verdict.tat
    return { at: passed, ok: verdict.ok, tat, before }
  })
}

/** How many more than its bound went through in the worst window. */
function excess(rate: Rate, seen: readonly { at: number; ok: boolean }[]): number {
  let worst = -Infinity
  const admitted = seen.filter(({ ok }) => ok).map(({ at }) => at)
  for (let i = 0; i < admitted.length; i++) {
    for (let j = i; j < admitted.length; j++) {
      const seconds = (admitted[j]! - admitted[i]!) / 1_000
      worst = Math.max(worst, j - i + 1 - (rate.burst + rate.rate * seconds))
    }
  }
  return worst
}

describe('a rate limit', () => {
  it('lets through its burst to the last one, and then one in each interval', () => {
    fc.assert(
      fc.property(rates, (rate) => {
        const seen = play(rate, Array.from({ length: rate.burst + 1 }, () => 0))
        expect(seen.map(({ ok }) => ok)).toEqual([...Array.from({ length: rate.burst }, () => true), false])
        const later = decide(seen.at(-1)!.tat, START + intervalMs(rate), rate)
        expect(later.ok).toBe(true)
        expect(decide(later.tat, START + intervalMs(rate), rate).ok).toBe(false)
      }),
    )
  })

  it('never lets through more than burst + rate × time in any window', () => {
    fc.assert(
      fc.property(rates, gaps(0), (rate, steps) => {
        expect(excess(rate, play(rate, steps))).toBeLessThan(1e-6)
      }),
    )
  })

  it('gives nothing away when the clock is set back, however often', () => {
    fc.assert(
      fc.property(rates, gaps(-40), (rate, steps) => {
        expect(excess(rate, play(rate, steps))).toBeLessThan(1e-6)
      }),
    )
  })

  it('is not changed by a refusal', () => {
    fc.assert(
      fc.property(rates, gaps(0), (rate, steps) => {
        for (const { tat, before } of play(rate, steps).filter(({ ok }) => !ok)) expect(tat).toBe(before)
      }),
    )
  })

  it('says when to come back: not a moment before, and then it lets through', () => {
    fc.assert(
      fc.property(rates, fc.integer({ min: 0, max: 40 }), (rate, taken) => {
        let tat = 0
        for (let i = 0; i < taken; i++) tat = decide(tat, START, rate).tat
        const verdict = decide(tat, START, rate)
        const waitMs = verdict.ok ? 0 : verdict.retryAfterMs
        expect(verdict.ok).toBe(taken < rate.burst)
        expect(room(tat, START, rate)).toBe(Math.max(0, rate.burst - taken))
        expect(verdict.ok && verdict.remaining).toBe(taken < rate.burst && rate.burst - taken - 1)
        expect(decide(tat, START + waitMs, rate).ok).toBe(true)
        expect(waitMs > 0 && decide(tat, START + waitMs - 1 / 2_048, rate).ok).toBe(false)
      }),
    )
  })

  it('locks nobody out for longer than a full burst takes, however far the clock was set back', () => {
    fc.assert(
      fc.property(rates, fc.integer({ min: 0, max: 1e12 }), (rate, back) => {
        const now = START - back
        const first = decide(START + burstMs(rate), now, rate)
        const waitMs = first.ok ? 0 : first.retryAfterMs
        expect(waitMs).toBeLessThanOrEqual(burstMs(rate))
        expect(decide(first.tat, now + waitMs, rate).ok).toBe(true)
      }),
    )
  })

  it('counts several at once as so many one by one', () => {
    fc.assert(
      fc.property(rates, fc.integer({ min: 1, max: 30 }), (rate, n) => {
        const together = decide(0, START, rate, n)
        let tat = 0
        let ok = true
        for (let i = 0; i < n; i++) ({ ok, tat } = decide(tat, START, rate))
        expect([together.ok, together.ok && together.tat]).toEqual([ok, ok && tat])
      }),
    )
  })
})

describe('blocks of a limit', () => {
  const any = fc.record({ rate: fc.double({ min: 0.001, max: 1e6, noNaN: true }), burst: fc.integer({ min: 1, max: 1_000_000 }) })

  it('take from the burst no less than what they may be held for, and no more than a tenth of it', () => {
    fc.assert(
      fc.property(any, (rate) => {
        const { shared, holdMs, size } = blocksOf(rate)
        expect(shared.burst + holdMs / intervalMs(rate)).toBeLessThanOrEqual(rate.burst + 1e-6)
        expect(shared.burst).toBeGreaterThanOrEqual(rate.burst * 0.9)
        expect(holdMs).toBeLessThanOrEqual(1_000)
        expect(size).toBeLessThanOrEqual(shared.burst)
      }),
    )
  })

  it('are not made of limits that are slow or small', () => {
    expect(blocksOf({ rate: 10, burst: 1_000 })).toEqual({ shared: { rate: 10, burst: 1_000 }, holdMs: 0, size: 1 })
    expect(blocksOf({ rate: 1_000, burst: 490 })).toMatchObject({ holdMs: 0, size: 1 })
    expect(blocksOf({ rate: 1_000, burst: 500 })).toMatchObject({ holdMs: 50, size: 50 })
    expect(blocksOf({ rate: 5_000, burst: 10_000 })).toMatchObject({ shared: { burst: 9_000 }, size: 1_000 })
  })
})
