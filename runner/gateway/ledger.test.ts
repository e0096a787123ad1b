import { describe, expect, it } from 'vitest'
import { Ledger, NO_TOKENS } from './ledger.ts'
import type { Payer } from './purse.ts'

const payer = (prices?: Payer['prices']): Payer => ({
  provider: 'a',
  version: 1,
  mayAsk: () => true,
  baseUrl: new URL('https://a.example'),
  headers: {},
  secrets: [],
  modelMap: {},
  prices,
  mayBePrivate: false,
})
const priced = payer({ '*': { input: 10, output: 50 } })
const tokens = (input_tokens: number, output_tokens: number) => ({ ...NO_TOKENS, input_tokens, output_tokens })

describe('the ledger of a turn', () => {
  it('knows the cost of whole answers, and when a budget is used up', () => {
    const ledger = new Ledger()
    ledger.paid(priced, 'm', tokens(100_000, 20_000))
    expect(ledger.metered).toMatchObject({ cost_usd: 2, known_usd: 2 })
    expect([ledger.hasSpent(2.01), ledger.hasSpent(2)]).toEqual([false, true])
  })

  it('still knows what was spent at least when one answer is lost', () => {
    const ledger = new Ledger()
    ledger.paid(priced, 'm', tokens(100_000, 20_000))
    ledger.lost(priced, 'm', { least: tokens(1_000, 1), sentBytes: 0, receivedBytes: 0 })
    expect(ledger.metered).toMatchObject({ cost_usd: null, known_usd: 2.01005, tokens: { input_tokens: 101_000, output_tokens: 20_001 } })
  })

  it('lets lost answers use up a budget by what went over the wire', () => {
    const ledger = new Ledger()
    // 10,000 tokens of input and 20,000 of output, of which the beginning told a part.
    const doubt = { least: tokens(10_000, 1), sentBytes: 40_000, receivedBytes: 2_000_000 }
    ledger.lost(priced, 'm', doubt)
    expect(ledger.metered).toMatchObject({ cost_usd: null, known_usd: 0.10005 })
    expect([ledger.hasSpent(1.11), ledger.hasSpent(1.1)]).toEqual([false, true])
    for (let i = 0; i < 9; i++) ledger.lost(priced, 'm', { ...doubt, least: NO_TOKENS })
    expect(ledger.hasSpent(11)).toBe(true)
  })

  it('knows nothing without a price, and holds no budget by that', () => {
    const ledger = new Ledger()
    ledger.paid(payer(), 'm', tokens(1e6, 1e6))
    ledger.lost(payer(), 'm', { least: tokens(1, 1), sentBytes: 1e9, receivedBytes: 1e9 })
    expect(ledger.metered).toMatchObject({ cost_usd: null, known_usd: 0 })
    expect(ledger.hasSpent(0.01)).toBe(false)
  })
})
