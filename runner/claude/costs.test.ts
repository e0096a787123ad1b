import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_COST_USD } from '../../shared/amounts.ts'
import { Costs } from './costs.ts'

describe('the cost of a turn', () => {
  it('is what the total has grown by, without dust', () => {
    const costs = new Costs()
    expect([0.000546, 0.001092, 0.0016380000000000001, 0.0016380000000000001].map((total) => costs.since(total))).toEqual([0.000546, 0.000546, 0.000546, 0])
  })

  it('is never negative, and a forged total is put right by the next true one', () => {
    const costs = new Costs()
    expect([0.1, 900, 0.2, 0.3, 0, 0.4].map((total) => costs.since(total))).toEqual([0.1, 899.9, 0, 0.1, 0, 0.4])
  })

  it('adds up to the total, in billionths', () => {
    const nanos = fc.array(fc.integer({ min: 0, max: 1_000_000_000_000 }), { maxLength: 50 })
    fc.assert(
      fc.property(nanos, (steps) => {
        const costs = new Costs()
        let total = 0
        for (const step of steps) {
          // As the CLI does: a sum of floating point.
          total += step / 1e9
          if (total > MAX_COST_USD) return
          expect(costs.since(total)).toBe(step / 1e9)
        }
      }),
    )
  })
})
