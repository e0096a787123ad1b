import { errors } from 'undici'
import { describe, expect, it } from 'vitest'
import { RefusedAddress } from './dial.ts'
import { isProviders, outcomeOf, outcomeOfError, outcomeOfType, retryAfterMs } from './outcome.ts'

describe('the outcome of a request', () => {
  it.each([
    [200, 'ok'], [204, 'ok'], [302, 'server'], [400, 'caller'], [401, 'auth'], [402, 'forbidden'], [403, 'forbidden'], [404, 'not_found'], [408, 'timeout'], [409, 'caller'],
    [413, 'caller'], [422, 'caller'], [429, 'rate_limited'], [500, 'server'], [502, 'server'], [503, 'server'], [504, 'timeout'], [520, 'server'], [529, 'overloaded'],
  ] as const)('with %d is %s', (status, outcome) => {
    expect(outcomeOf(status, true)).toBe(outcome)
    expect(isProviders(outcome)).toBe(!['ok', 'caller'].includes(outcome))
  })

  it('of a path that nobody knows is the caller’s', () => {
    expect(outcomeOf(404, false)).toBe('caller')
  })

  it('without an answer is the provider’s, unless the owner refused the address', () => {
    expect(outcomeOfError(Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }))).toBe('unreachable')
    expect(outcomeOfError(new Error('outer', { cause: new RefusedAddress('no') }))).toBe('refused_url')
    expect(outcomeOfError(new errors.InvalidArgumentError('invalid x-made-up header'))).toBe('caller')
  })

  it('of an error event is what its type says', () => {
    expect(['overloaded_error', 'rate_limit_error', 'invalid_request_error', 'api_error', ''].map(outcomeOfType)).toEqual(['overloaded', 'rate_limited', 'caller', 'server', 'server'])
  })
})

describe('retry-after', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  it.each([
    ['5', 5_000], ['0', 0], ['0.5', 500], [' 7 ', 7_000], ['86400', 300_000], ['Thu, 01 Jan 2026 00:00:09 GMT', 9_000], ['Wed, 31 Dec 2025 00:00:00 GMT', 0],
    ['Fri, 02 Jan 2026 00:00:00 GMT', 300_000], ['soon', null], ['-5', null], ['', null], [undefined, null],
  ])('%j is %j ms', (text, ms) => {
    expect(retryAfterMs(text, now)).toBe(ms)
  })
})
