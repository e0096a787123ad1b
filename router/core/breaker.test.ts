import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Outcome } from '../../shared/grants.ts'
import { DEFAULT_ROUTING } from '../../shared/tenant-settings.ts'
import { badness, MAX_RETRY_AFTER_MS, standingOf, verdictOf, worst, type Breaker, type Standing } from './breaker.ts'

const NOW = 1_000_000
const breaker = (more: Partial<Breaker>): Breaker => ({ provider: 'p', model: '', state: 'closed', openUntil: null, probeUntil: null, ...more })
const report = (outcome: Outcome, more: object = {}) => ({ outcome, model: 'claude-opus-4-8', status: null, retry_after_ms: null, ...more })

describe('who is to blame for a request', () => {
  it.each<[Outcome, string]>([
    ['ok', 'ok'],
    ['caller', 'nothing'],
    ['cancelled', 'nothing'],
    ['server', 'counts'],
    ['overloaded', 'counts'],
    ['unreachable', 'counts'],
    ['timeout', 'counts'],
    ['refused_url', 'nothing'],
    ['auth', 'opens'],
    ['rate_limited', 'opens'],
    ['forbidden', 'opens'],
    ['not_found', 'opens'],
  ])('of the outcome %s it is said that it %s', (outcome, is) => {
    expect(verdictOf(report(outcome), DEFAULT_ROUTING, NOW).is).toBe(is)
  })

  it('a key that is refused waits for an admin', () => {
    expect(verdictOf(report('auth', { status: 401 }), DEFAULT_ROUTING, NOW)).toEqual({ is: 'opens', model: '', until: null, reason: 'auth (401)' })
  })

  it('a model that is refused is that model’s trouble, and nobody’s when it has no name that could be told to a runner', () => {
    const until = NOW + 60_000
    expect(verdictOf(report('not_found'), DEFAULT_ROUTING, NOW)).toEqual({ is: 'opens', model: 'claude-opus-4-8', until, reason: 'not_found' })
    for (const model of [null, '', '--x', 'a b']) expect(verdictOf(report('forbidden', { model }), DEFAULT_ROUTING, NOW)).toEqual({ is: 'nothing' })
  })

  it('a rate limit lasts for as long as the provider says, but not longer than five minutes', () => {
    const until = (ms: number | null) => {
      const verdict = verdictOf(report('rate_limited', { retry_after_ms: ms }), DEFAULT_ROUTING, NOW)
      return verdict.is === 'opens' && verdict.model === '' ? verdict.until! - NOW : undefined
    }
    expect([until(7_000), until(null), until(MAX_RETRY_AFTER_MS), until(MAX_RETRY_AFTER_MS + 1)]).toEqual([7_000, 60_000, 300_000, 300_000])
  })
})

describe('what a breaker means to a run', () => {
  it.each<[Partial<Breaker>, Standing]>([
    [{ state: 'closed', openUntil: NOW + 1 }, { is: 'closed' }],
    [{ state: 'open', openUntil: NOW + 1 }, { is: 'open', until: NOW + 1 }],
    [{ state: 'open', openUntil: NOW }, { is: 'due' }],
    [{ state: 'open', openUntil: null }, { is: 'open', until: null }],
    [{ state: 'half_open', openUntil: NOW - 9, probeUntil: NOW + 1 }, { is: 'open', until: NOW + 1 }],
    [{ state: 'half_open', openUntil: NOW - 9, probeUntil: NOW }, { is: 'due' }],
  ])('%j is %j', (more, standing) => {
    expect(standingOf(breaker(more), NOW)).toEqual(standing)
  })

  it('the worst of several is what counts, and an admin’s turn is worse than any time', () => {
    const someStanding = fc.oneof(
      fc.constantFrom<Standing>({ is: 'closed' }, { is: 'due' }, { is: 'open', until: null }),
      fc.nat().map((until): Standing => ({ is: 'open', until })),
    )
    fc.assert(
      fc.property(fc.array(someStanding), (standings) => {
        const all = standings.map(badness)
        expect(badness(worst(standings))).toBe(Math.max(-2, ...all))
        expect(worst([...standings, { is: 'open', until: null }])).toEqual({ is: 'open', until: null })
      }),
    )
    expect(worst([])).toEqual({ is: 'closed' })
  })
})
