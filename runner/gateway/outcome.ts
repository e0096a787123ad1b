/**
 * Whose doing an answer is: the provider's, which another one may do better, or the caller's, which none will.
 *
 * 400, 413, 422 and every 4xx that is not named here speak of the request, and are passed on as they are.
 */
import { errors } from 'undici'
import type { Outcome } from '../../shared/grants.ts'
import { RefusedAddress } from './dial.ts'

/** Longer waits are the router's to keep; a provider that asks for a day must not take itself out of a run by it. */
const MAX_RETRY_AFTER_MS = 5 * 60_000

const BY_STATUS = new Map<number, Outcome>([
  [401, 'auth'],
  // No credit: like a forbidden model it is the account's trouble, and not that of what was asked.
  [402, 'forbidden'],
  [403, 'forbidden'],
  [408, 'timeout'],
  [429, 'rate_limited'],
  [504, 'timeout'],
  [529, 'overloaded'],
])

/** `forModel`: the request names a model, so that 404 can mean the model rather than the path. */
export function outcomeOf(status: number, forModel: boolean): Outcome {
  if (status < 300) return 'ok'
  // Nobody is followed anywhere with a key: a base URL that redirects does not work.
  if (status < 400) return 'server'
  if (status === 404) return forModel ? 'not_found' : 'caller'
  return BY_STATUS.get(status) ?? (status >= 500 ? 'server' : 'caller')
}

/** Of what kept a request from being answered, or to the end. */
export function outcomeOfError(error: unknown): Outcome {
  if (error instanceof errors.BodyTimeoutError) return 'timeout'
  // It was not sent: a header that a tool made up, for one.
  if (error instanceof errors.InvalidArgumentError || error instanceof errors.NotSupportedError) return 'caller'
  for (let at: unknown = error; at instanceof Error; at = at.cause) if (at instanceof RefusedAddress) return 'refused_url'
  return 'unreachable'
}

/** What the `error` event of a stream or the body of an error says of itself. */
const BY_TYPE = new Map<string, Outcome>([
  ['overloaded_error', 'overloaded'],
  ['rate_limit_error', 'rate_limited'],
  ['authentication_error', 'auth'],
  ['permission_error', 'forbidden'],
  ['billing_error', 'forbidden'],
  ['not_found_error', 'not_found'],
  ['timeout_error', 'timeout'],
  ['invalid_request_error', 'caller'],
  ['request_too_large', 'caller'],
])

export function outcomeOfType(type: string): Outcome {
  return BY_TYPE.get(type) ?? 'server'
}

/** Another provider of the run is asked after these. */
export function isProviders(outcome: Outcome): boolean {
  return outcome !== 'ok' && outcome !== 'caller' && outcome !== 'cancelled'
}

/** `retry-after` as seconds or as a date (RFC 9110 §10.2.3); `wallMs` is the time of day. */
export function retryAfterMs(value: string | string[] | undefined, wallMs: number): number | null {
  const text = (Array.isArray(value) ? value[0] : value)?.trim() ?? ''
  if (/^\d+(?:\.\d+)?$/.test(text)) return Math.min(MAX_RETRY_AFTER_MS, Math.ceil(Number(text) * 1_000))
  const at = /[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? null : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, at - wallMs))
}
