import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ExitMark, TurnResult } from '../../shared/marks.ts'
import { allowanceId, costOf, dayEnd, readAllowanceId, sessionLimitMicros, toMicros, toUsd, wantsOf } from './budget.ts'
import type { AllowanceKind, Spender } from './budget.ts'

const by: Spender = { tenant: 'acme', token: 'jti-1', session: 'se-1', createdAt: Date.UTC(2026, 10, 21, 23, 59, 59) }
const tokens = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const result: TurnResult = { seq: 2, is_error: false, cost_usd: 0.25, usage: tokens, num_turns: 1 }
const metered = (requests: number, cost_usd: number | null, known_usd = cost_usd ?? 0) => ({ requests, cost_usd, known_usd, tokens, provider: 'main', failovers: 0 })

describe('what a run wants', () => {
  it('is nothing where nothing is limited, and its own budget stays what it was', () => {
    expect(wantsOf(by, undefined, {}, {})).toEqual({ wants: [], budgetUsd: undefined })
    expect(wantsOf(by, 3, {}, {})).toEqual({ wants: [], budgetUsd: 3 })
  })

  it('is room in every budget that is set, of as much as it may cost', () => {
    const budget = { total_usd: 100, day_usd: 10, session_usd: 5, token_usd: 7, run_usd: 0.5 }
    const { wants, budgetUsd } = wantsOf(by, undefined, { budget, concurrent_runs: 3 }, { day_usd: 2 })
    expect(budgetUsd).toBe(0.5)
    expect(wants.map((w) => [w.allowance, w.amount, w.limit])).toEqual([
      ['acme/usd', 500_000, 100_000_000],
      ['acme/usd/day/2026-11-21', 500_000, 10_000_000],
      ['acme/usd/token/jti-1', 500_000, 7_000_000],
      ['acme/usd/token-day/2026-11-21/jti-1', 500_000, 2_000_000],
      ['acme/usd/session/se-1', 500_000, 5_000_000],
      ['acme/runs', 1, 3],
    ])
  })

  it.each<[string, number | undefined, number | undefined, number | undefined, number]>([
    ['what the run asks for', 2, undefined, 0.5, 2],
    ['what the tenant says for a run that asks for nothing', undefined, undefined, 0.5, 0.5],
    ['one dollar where nobody says anything', undefined, undefined, undefined, 1],
    ['no more than the token lets a run have', 2, 0.3, 0.5, 0.3],
    ['all that the token lets a run have', undefined, 0.3, 0.5, 0.3],
  ])('reserves %s', (_what, asked, cap, tenant, expected) => {
    const budget = { total_usd: 9, ...(tenant === undefined ? {} : { run_usd: tenant }) }
    const { wants, budgetUsd } = wantsOf(by, asked, { budget }, cap === undefined ? {} : { run_usd: cap })
    expect([budgetUsd, wants[0]?.amount]).toEqual([expected, toMicros(expected)])
  })

  it.each<[string, number | undefined, number | undefined, number, number]>([
    ['all that is left of the budget of its session', undefined, undefined, 2.3, 2_300_000],
    ['what it asks for, where more is left', 0.7, undefined, 2.3, 700_000],
    ['what is left, where it asks for more', 5, undefined, 2.3, 2_300_000],
    ['what the tenant says for a run that asks for nothing', undefined, 0.5, 2.3, 500_000],
    ['what is left, where the tenant says more', undefined, 0.5, 0.2, 200_000],
  ])('reserves %s', (_what, asked, tenant, left, amount) => {
    const budget = { total_usd: 9, ...(tenant === undefined ? {} : { run_usd: tenant }) }
    const { wants, budgetUsd } = wantsOf(by, asked, { budget }, {}, { limitMicros: 3_000_000, leftMicros: toMicros(left) })
    expect(wants.map((w) => [w.kind, w.amount, w.limit])).toEqual([['tenant', amount, 9_000_000], ['session', amount, 3_000_000]])
    expect(budgetUsd).toBe(amount / 1_000_000)
  })

  it('is never more than is left of its session, to the last millionth', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), fc.option(fc.double({ min: 0.000001, max: 2_000, noNaN: true }), { nil: undefined }), (leftMicros, asked) => {
        const { wants, budgetUsd } = wantsOf(by, asked, {}, {}, { limitMicros: 1e9, leftMicros })
        expect(wants[0]!.amount).toBeLessThanOrEqual(leftMicros)
        expect(toMicros(budgetUsd!)).toBeLessThanOrEqual(wants[0]!.amount)
      }),
    )
  })

  it('falls under the smaller budget of a session, whoever sets it', () => {
    expect([3, 7].map((asked) => sessionLimitMicros(asked, { budget: { session_usd: 5 } }))).toEqual([3_000_000, 5_000_000])
    expect(sessionLimitMicros(3, {})).toBe(3_000_000)
  })

  it.each([
    [3, 7, 3_000_000],
    [7, 3, 3_000_000],
    [undefined, 3, 3_000_000],
    [3, undefined, 3_000_000],
  ])('takes the smaller of the budget that a token carries (%s) and that of each token (%s)', (own, set, limit) => {
    const { wants } = wantsOf(by, 1, { budget: set === undefined ? {} : { token_usd: set } }, own === undefined ? {} : { budget_usd: own })
    expect(wants.map((w) => [w.kind, w.limit])).toEqual([['token', limit]])
  })
})

describe('the names of allowances', () => {
  const kind = fc.constantFrom<AllowanceKind>('tenant', 'day', 'token', 'token_day', 'session', 'runs')
  const spender = fc.record({
    tenant: fc.stringMatching(/^[a-z0-9_-]{1,20}$/),
    token: fc.string(),
    session: fc.uuid(),
    createdAt: fc.integer({ min: 0, max: 4e12 }),
  })

  it('are read back as they were written, and no two budgets share one', () => {
    fc.assert(
      fc.property(kind, spender, kind, spender, (a, one, b, two) => {
        const read = readAllowanceId(one.tenant, allowanceId(a, one))
        expect(read?.kind).toBe(a)
        expect([undefined, one.token, one.session]).toContain(read?.of)
        const isSame = allowanceId(a, one) === allowanceId(b, { ...two, tenant: one.tenant })
        expect(!isSame || a === b).toBe(true)
      }),
    )
  })

  it('belong to the day of UTC', () => {
    expect(new Date(dayEnd(by.createdAt)).toISOString()).toBe('2026-11-22T00:00:00.000Z')
    expect(readAllowanceId('acme', 'other/usd')).toBeUndefined()
  })
})

describe('what a run cost', () => {
  const exit = (more: Partial<ExitMark>) => ({ reason: 'completed' as const, ...more })
  it.each<[string, Parameters<typeof costOf>[0], boolean, number | undefined]>([
    ['by the price list, whatever the CLI says', exit({ result, metered: metered(2, 0.5) }), true, 0.5],
    ['by the CLI, where there is no price list', exit({ result, metered: metered(2, null) }), true, 0.25],
    ['by the CLI, where there is no gateway', exit({ result }), true, 0.25],
    ['nothing without a request', exit({ reason: 'crashed', metered: metered(0, null) }), true, 0],
    ['nothing for one that was never started', exit({ reason: 'not_started' }), true, 0],
    ['nothing for one that waited in vain', exit({ reason: 'queue_timeout' }), true, 0],
    ['nothing for one that was cancelled in the line', exit({ reason: 'cancelled' }), false, 0],
    ['by the price list, though it was killed', exit({ reason: 'timeout', metered: metered(3, 0.75) }), true, 0.75],
    ['nobody knows of one that was killed', exit({ reason: 'cancelled' }), true, undefined],
    ['nobody knows of one that is lost', exit({ reason: 'lost' }), true, undefined],
    ['nobody knows of requests without a price', exit({ reason: 'crashed', metered: metered(3, null) }), true, undefined],
  ])('is counted %s', (_what, mark, begun, usd) => {
    expect(costOf(mark, begun)).toEqual({ usd, isLeast: usd === undefined })
  })

  it('is not what the CLI says of a turn that was cut off, which counts nothing of it', () => {
    for (const reason of ['cancelled', 'timeout'] as const) {
      expect(costOf(exit({ reason, result: { ...result, cost_usd: 0 }, metered: metered(1, null) }), true)).toEqual({ usd: undefined, isLeast: true })
      expect(costOf(exit({ reason, result: { ...result, cost_usd: 0 } }), true)).toEqual({ usd: undefined, isLeast: true })
      expect(costOf(exit({ reason, result }), true)).toEqual({ usd: 0.25, isLeast: true })
      expect(costOf(exit({ reason, metered: metered(0, null) }), true)).toEqual({ usd: 0, isLeast: false })
    }
  })

  it('is no number that a sum could not hold', () => {
    for (const usd of [1e10, 1e305, Infinity]) expect(toMicros(usd)).toBe(Number.MAX_SAFE_INTEGER)
  })

  it('is what is known at least, or what the CLI says, where something has no price', () => {
    expect(costOf(exit({ result, metered: metered(9, null, 75) }), true)).toEqual({ usd: 75, isLeast: true })
    expect(costOf(exit({ result, metered: metered(9, null, 0.1) }), true)).toEqual({ usd: 0.25, isLeast: true })
    expect(costOf(exit({ reason: 'timeout', metered: metered(9, null, 0.1) }), true)).toEqual({ usd: 0.1, isLeast: true })
  })

  it('is never less than what is known, whatever the CLI and its gateway say besides', () => {
    const usd = fc.double({ min: 0, max: 1e5, noNaN: true })
    const someMetered = fc.option(fc.tuple(fc.nat(9), fc.option(usd), usd), { nil: undefined })
    const reason = fc.constantFrom<ExitMark['reason']>('completed', 'timeout', 'crashed', 'lost')
    fc.assert(
      fc.property(reason, fc.option(usd, { nil: undefined }), someMetered, (why, said, counted) => {
        const mark = {
          reason: why,
          ...(said === undefined ? {} : { result: { ...result, cost_usd: said } }),
          ...(counted && { metered: metered(...counted) }),
        }
        const cost = costOf(mark, true)
        expect(cost.usd ?? 0).toBeGreaterThanOrEqual(counted?.[2] ?? 0)
        expect(cost.usd !== undefined || cost.isLeast).toBe(true)
      }),
    )
  })

  it('keeps millionths', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e15 }), (micros) => {
        expect(toMicros(toUsd(micros))).toBe(micros)
      }),
    )
  })
})
