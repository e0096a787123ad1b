import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_ATTEMPTS, retryAfterMs, retryDelayMs } from './schedule.ts'

const HOUR_MS = 3_600_000
const waits = (random: () => number, askedMs = 0) => Array.from({ length: MAX_ATTEMPTS - 1 }, (_, i) => retryDelayMs(i + 1, random, askedMs) ?? NaN)
const sum = (all: number[]) => all.reduce((a, b) => a + b, 0)

describe('the schedule of a message that is not taken', () => {
  it('begins after seconds and ends within a day, whatever chance and the receiver say', () => {
    expect(waits(() => 0).slice(0, 4)).toEqual([5_000, 15_000, 45_000, 135_000])
    expect(sum(waits(() => 0)) / HOUR_MS).toBeCloseTo(22.5, 1)
    expect(sum(waits(() => 0.999)) / HOUR_MS).toBeCloseTo(18, 1)
    const chance = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: MAX_ATTEMPTS, maxLength: MAX_ATTEMPTS })
    fc.assert(
      fc.property(chance, fc.nat(1e12), (numbers, askedMs) => {
        let next = 0
        const total = sum(waits(() => numbers[next++ % numbers.length] ?? 0, askedMs))
        expect(total).toBeGreaterThan(17 * HOUR_MS)
        expect(total).toBeLessThan(24 * HOUR_MS)
      }),
    )
  })

  it('has an end', () => {
    expect(retryDelayMs(MAX_ATTEMPTS - 1, () => 0)).toBeGreaterThan(0)
    expect(retryDelayMs(MAX_ATTEMPTS, () => 0)).toBeUndefined()
  })

  it('heeds what a receiver asks for, within bounds, and never comes back sooner for it', () => {
    expect(retryDelayMs(1, () => 0, 60_000)).toBe(60_000)
    expect(retryDelayMs(1, () => 0, HOUR_MS)).toBe(15 * 60_000)
    expect(retryDelayMs(8, () => 0, 60_000)).toBe(3 * HOUR_MS)
  })
})

describe('a Retry-After', () => {
  const now = Date.parse('2026-11-21T10:00:00Z')
  it.each([
    ['120', 120_000],
    [' 0 ', 0],
    ['Sat, 21 Nov 2026 10:01:00 GMT', 60_000],
    ['Sat, 21 Nov 2026 09:00:00 GMT', 0],
    ['-5', 0],
    ['1e9', 0],
    ['soon', 0],
    ['', 0],
    [undefined, 0],
  ])('of %j asks for %d ms', (header, ms) => {
    expect(retryAfterMs(header, now)).toBe(ms)
  })
})
