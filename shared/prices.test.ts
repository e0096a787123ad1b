import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Tokens } from './grants.ts'
import { unitsOf, usd } from './prices.ts'

const costOf = (...of: Parameters<typeof unitsOf>): number | null => {
  const units = unitsOf(...of)
  return units === null ? null : usd(units)
}

const tokens = (input: number, output = 0, write = 0, read = 0): Tokens => ({
  input_tokens: input,
  output_tokens: output,
  cache_creation_input_tokens: write,
  cache_read_input_tokens: read,
})

describe('the cost of an answer', () => {
  const prices = { 'claude-sonnet-4-5': { input: 3, output: 15, cache_write: 3.75, cache_read: 0.3 }, '*': { input: 0.1, output: 0.2 } }

  it('is the sum over the four kinds of tokens, exactly', () => {
    expect(costOf(prices, 'claude-sonnet-4-5', tokens(1_000_000, 1_000_000, 1_000_000, 1_000_000))).toBe(22.05)
    expect(costOf(prices, 'claude-sonnet-4-5', tokens(3, 7, 11, 13))).toBe(0.00015915)
    // 0.1 · 3 is 0.30000000000000004 in doubles.
    expect(costOf(prices, 'other', tokens(3_000_000))).toBe(0.3)
  })

  it('takes the star for a model that has no entry, and the price of input for a cache that has none', () => {
    expect(costOf(prices, 'other', tokens(0, 0, 1_000_000, 1_000_000))).toBe(0.2)
    expect(costOf(prices, null, tokens(1_000_000))).toBe(0.1)
  })

  it('is unknown without a price, unless there is nothing to pay', () => {
    expect(costOf({ a: { input: 1, output: 1 } }, 'b', tokens(1))).toBeNull()
    expect(costOf(undefined, 'b', tokens(0, 1))).toBeNull()
    expect(costOf(undefined, 'b', tokens(0))).toBe(0)
  })

  it('is not taken from what every object has', () => {
    expect(costOf({ a: { input: 1, output: 1 } }, 'constructor', tokens(1))).toBeNull()
  })

  it('adds up to the same in any order', () => {
    const list = fc.array(fc.record({ input: fc.nat(1_000_000), output: fc.nat(1_000_000) }), { maxLength: 20 })
    fc.assert(
      fc.property(list, (answers) => {
        const sum = (of: typeof answers) => usd(of.reduce((total, a) => total + unitsOf(prices, 'claude-sonnet-4-5', tokens(a.input, a.output))!, 0n))
        expect(sum(answers)).toBe(sum(answers.toReversed()))
        const all = answers.reduce((one, a) => tokens(one.input_tokens + a.input, one.output_tokens + a.output), tokens(0))
        expect(sum(answers)).toBe(costOf(prices, 'claude-sonnet-4-5', all))
      }),
    )
  })
})
