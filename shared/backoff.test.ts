import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HOPELESS_CODES, isHopeless, reconnectDelayMs } from './backoff.ts'
import { CLOSE } from './frames.ts'

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
const highest = () => 1 - Number.EPSILON

describe('the wait before a runner dials again', () => {
  it('is at most a quarter of a second the first time', () => {
    fc.assert(
      fc.property(random, fc.nat(), (r, sinceLiveMs) => {
        const delay = reconnectDelayMs(0, sinceLiveMs, () => r)
        expect(delay).toBeGreaterThanOrEqual(0)
        expect(delay).toBeLessThanOrEqual(250)
      }),
    )
  })

  it('is never negative and never past its cap: 1 s soon after a live link, 15 s later', () => {
    fc.assert(
      fc.property(fc.nat(10_000), fc.nat(86_400_000), random, (attempt, sinceLiveMs, r) => {
        const delay = reconnectDelayMs(attempt, sinceLiveMs, () => r)
        expect(delay).toBeGreaterThanOrEqual(0)
        expect(delay).toBeLessThanOrEqual(sinceLiveMs < 30_000 ? 500 : 15_000)
      }),
    )
  })

  it('doubles its upper bound until the cap', () => {
    const bounds = [1, 2, 3, 4, 5, 6, 7].map((attempt) => Math.round(reconnectDelayMs(attempt, 60_000, highest)))
    expect(bounds).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000])
    expect([1, 2, 3].map((attempt) => Math.round(reconnectDelayMs(attempt, 29_999, highest)))).toEqual([500, 500, 500])
  })

  it('is spread over everything below the bound, so that a herd does not form', () => {
    expect([0, 0.25, 0.5].map((r) => reconnectDelayMs(9, 60_000, () => r))).toEqual([0, 3_750, 7_500])
  })
})

describe('giving up', () => {
  it('needs three tries and ten minutes', () => {
    expect(isHopeless(2, 3_600_000)).toBe(false)
    expect(isHopeless(100, 599_999)).toBe(false)
    expect(isHopeless(3, 600_000)).toBe(true)
  })

  it('is only for what waiting cannot mend', () => {
    expect([...HOPELESS_CODES].toSorted((a, b) => a - b)).toEqual([CLOSE.auth, CLOSE.revoked, CLOSE.version])
  })
})
