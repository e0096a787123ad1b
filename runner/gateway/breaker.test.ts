import { describe, expect, it } from 'vitest'
import { Breaker } from './breaker.ts'
import { Breakers } from './breakers.ts'

const rules = { failureThreshold: 3, recoveryMs: 1_000 }
const of = (model: string | null = 'm', retryAfterMs: number | null = null) => ({ model, retryAfterMs })

describe('the breakers of a machine', () => {
  const a = { provider: 'a', version: 1 }

  it('are one for each tenant, provider and version', () => {
    const breakers = new Breakers()
    const one = breakers.of('t', a)
    expect(breakers.of('t', a)).toBe(one)
    for (const [tenant, what] of [['u', a], ['t', { ...a, version: 2 }], ['t', { ...a, provider: 'b' }]] as const) expect(breakers.of(tenant, what)).not.toBe(one)
  })

  it('are a thousand, and those go that nobody asks for', () => {
    const breakers = new Breakers()
    const [kept, lost] = [breakers.of('t', a), breakers.of('u', a)]
    for (let version = 2; version < 1_001; version++) {
      breakers.of('t', { ...a, version })
      breakers.of('t', a)
    }
    expect(breakers.of('t', a)).toBe(kept)
    expect(breakers.of('u', a)).not.toBe(lost)
  })
})

describe('the breaker of a provider on this machine', () => {
  it('opens at the threshold, and lets it be tried again after its time', () => {
    const breaker = new Breaker()
    for (const outcome of ['server', 'timeout'] as const) breaker.saw(outcome, of(), rules, 0)
    expect(breaker.isOpen('m', 0)).toBe(false)
    breaker.saw('unreachable', of(), rules, 0)
    expect([breaker.isOpen('m', 999), breaker.isOpen('other', 0), breaker.isOpen('m', 1_000)]).toEqual([true, true, false])
    // Half-open: the next failure opens it at once, a success closes it.
    breaker.saw('overloaded', of(), rules, 1_000)
    expect(breaker.isOpen('m', 1_001)).toBe(true)
    breaker.saw('ok', of(), rules, 2_000)
    breaker.saw('server', of(), rules, 2_000)
    expect(breaker.isOpen('m', 2_000)).toBe(false)
  })

  it('counts failures in a row only, and no mistake of a caller', () => {
    const breaker = new Breaker()
    for (const outcome of ['server', 'server', 'ok', 'server', 'server', 'caller', 'cancelled', 'refused_url'] as const) breaker.saw(outcome, of(), rules, 0)
    expect(breaker.isOpen('m', 0)).toBe(false)
  })

  it('opens at once for a bad key, until a grant says otherwise', () => {
    const breaker = new Breaker()
    breaker.saw('auth', of(), rules, 0)
    expect(breaker.isOpen('m', 1e12)).toBe(true)
    breaker.told({ open_ms: null }, 1e12)
    expect(breaker.isOpen('m', 1e13)).toBe(true)
    breaker.told({}, 1e13)
    expect(breaker.isOpen('m', 1e13)).toBe(false)
  })

  it('opens for one model that is forbidden or not there', () => {
    const breaker = new Breaker()
    breaker.saw('forbidden', of('a'), rules, 0)
    breaker.saw('not_found', of('b'), rules, 0)
    expect(['a', 'b', 'c', null].map((model) => breaker.isOpen(model, 0))).toEqual([true, true, false, false])
    expect(breaker.isOpen('a', 1_000)).toBe(false)
  })

  it('waits as long as it is told to by 429, and counts it where it says nothing', () => {
    const breaker = new Breaker()
    breaker.saw('rate_limited', of('m', 7_000), rules, 0)
    expect([breaker.isOpen('m', 6_999), breaker.isOpen('m', 7_000)]).toEqual([true, false])
    for (let i = 0; i < 3; i++) breaker.saw('rate_limited', of(), rules, 8_000)
    expect(breaker.isOpen('m', 8_999)).toBe(true)
  })

  it('remembers so many models and no more, those that are over first', () => {
    const breaker = new Breaker()
    breaker.saw('not_found', of('first'), rules, 0)
    breaker.saw('not_found', of('long'), { ...rules, recoveryMs: 60_000 }, 0)
    for (let i = 0; i < 63; i++) breaker.saw('not_found', of(`m${i}`), rules, 500)
    expect([breaker.isOpen('first', 500), breaker.isOpen('long', 500), breaker.isOpen('m62', 500)]).toEqual([false, true, true])
    breaker.saw('not_found', of('new'), rules, 2_000)
    expect([breaker.isOpen('long', 2_000), breaker.isOpen('new', 2_000)]).toEqual([true, true])
  })

  it('takes over what the router says with a grant', () => {
    const breaker = new Breaker()
    breaker.told({ open_ms: 500, open_models: { a: 900, b: null } }, 100)
    expect([breaker.isOpen('x', 599), breaker.isOpen('x', 600), breaker.isOpen('a', 999), breaker.isOpen('a', 1_000), breaker.isOpen('b', 1e12)]).toEqual([true, false, true, false, true])
    breaker.told({ open_ms: undefined }, 200)
    expect(breaker.isOpen('b', 200)).toBe(false)
  })

  it('lets the run try that the router chose for it, whatever it says to the others of this machine', () => {
    const breaker = new Breaker()
    for (let i = 0; i < 3; i++) breaker.saw('overloaded', of(), rules, 0)
    breaker.told({}, 500)
    breaker.told({ open_ms: 9_000 }, 501)
    expect([breaker.isOpen('m', 502, true), breaker.isOpen('m', 502)]).toEqual([false, true])
    breaker.saw('overloaded', of(), rules, 503)
    expect(breaker.isOpen('m', 504, true)).toBe(true)
  })
})
