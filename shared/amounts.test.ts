import { describe, expect, it } from 'vitest'
import { MAX_COST_USD, MAX_TOKENS } from './amounts.ts'
import { ExitMark, TurnResult } from './marks.ts'

const tokens = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const result = { seq: 1, is_error: false, cost_usd: 0.5, usage: tokens, num_turns: 1 }
const metered = { requests: 1, tokens, cost_usd: 0.5, known_usd: 0.5, provider: 'main', failovers: 0 }
const exit = { kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 1 }

describe('the amounts that a runner tells', () => {
  it('stay what they are within reason', () => {
    const mark = { ...exit, result, metered }
    expect(ExitMark.parse(mark)).toEqual(mark)
    expect(TurnResult.parse({ ...result, cost_usd: MAX_COST_USD }).cost_usd).toBe(MAX_COST_USD)
  })

  it('are cut and not refused beyond it, so that a forged one keeps no run from ending', () => {
    for (const cost_usd of [MAX_COST_USD + 1, 1e12, 1e305]) {
      const read = ExitMark.parse({
        ...exit,
        result: { ...result, cost_usd, usage: { ...tokens, output_tokens: cost_usd * 1e3 } },
        metered: { ...metered, cost_usd, known_usd: cost_usd },
      })
      expect(read.result).toMatchObject({ cost_usd: MAX_COST_USD, usage: { output_tokens: expect.any(Number) as number } })
      expect(read.result!.usage.output_tokens).toBeLessThanOrEqual(MAX_TOKENS)
      expect(read.metered).toMatchObject({ cost_usd: MAX_COST_USD, known_usd: MAX_COST_USD })
    }
  })

  it('are refused where they are none', () => {
    for (const cost_usd of [-1, Infinity, NaN, '1']) expect(TurnResult.safeParse({ ...result, cost_usd }).success).toBe(false)
  })
})
