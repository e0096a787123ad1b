import { beforeEach, describe, expect, it } from 'vitest'
import { TestClock } from '../../test/kit/clock.ts'
import type { ProviderReport } from '../../shared/grants.ts'
import { NO_TOKENS } from './ledger.ts'
import { News } from './news.ts'

const RUN = `run_${'a'.repeat(32)}`
const tokens = { ...NO_TOKENS, input_tokens: 10, output_tokens: 1 }
const report = (more: Partial<ProviderReport> = {}): ProviderReport => ({
  run: RUN,
  fence: 1,
  stage: 'end',
  provider: 'a',
  version: 2,
  model: 'm',
  outcome: 'ok',
  status: 200,
  retry_after_ms: null,
  latency_ms: 5,
  tokens,
  ...more,
})

describe('the news of a run', () => {
  let clock: TestClock
  let told: ProviderReport[]
  let logged: string[]
  let news: News
  beforeEach(() => {
    clock = new TestClock()
    told = []
    logged = []
    news = new News({ report: (one) => told.push(one), log: (_message, fields) => logged.push(JSON.stringify(fields)) }, clock)
  })

  it('are told as they come, up to twenty in a second', () => {
    for (let i = 0; i < 30; i++) news.report(report({ outcome: 'server', tokens: null }))
    expect(told).toEqual(Array.from({ length: 20 }, () => report({ outcome: 'server', tokens: null })))
    clock.advance(999)
    news.report(report())
    expect(told).toHaveLength(20)
    clock.advance(1)
    news.report(report({ model: 'next' }))
    expect(told[20]).toMatchObject({ model: 'next' })
  })

  it('lose no tokens: the next one that is told has them, or the end of the turn, and then nobody is blamed', () => {
    for (let i = 0; i < 25; i++) news.report(report())
    clock.advance(1_000)
    news.report(report({ stage: 'headers', tokens: null }))
    news.report(report({ outcome: 'overloaded', tokens: null }))
    expect(told.slice(20)).toMatchObject([{ stage: 'headers', tokens: null }, { outcome: 'overloaded', tokens: { input_tokens: 50, output_tokens: 5 } }])
    for (let i = 0; i < 20; i++) news.report(report({ provider: 'b', outcome: 'overloaded' }))
    news.flush()
    news.flush()
    expect(told).toHaveLength(41)
    expect(told[40]).toEqual(report({ provider: 'b', model: null, outcome: 'cancelled', status: null, latency_ms: null, tokens: { ...NO_TOKENS, input_tokens: 20, output_tokens: 2 } }))
  })

  it('are logged once for each provider and outcome in ten seconds', () => {
    const failing = () => {
      for (const [provider, outcome] of [['a', 'server'], ['a', 'auth'], ['b', 'server']] as const) news.failed(RUN, provider, outcome, 500)
    }
    failing()
    failing()
    clock.advance(9_999)
    failing()
    expect(logged).toHaveLength(3)
    clock.advance(1)
    failing()
    expect(logged).toHaveLength(6)
  })
})
