/**
 * "No" in the words of ccs: `{success: false, error}`, with the status of the fault. A budget that is spent is a failure of
 * the request there, with its numbers.
 */
import type { Context } from 'hono'
import type { Fault } from '../../../shared/faults.ts'
import type { AppEnv } from '../../ports.ts'

const TOO_MANY = 'Too many requests, please try again later.'
const HINT = 'Use Authorization: Bearer ccs_ak_…'

export function refuse(c: Context<AppEnv>, fault: Fault): Response {
  const headers = new Headers({ 'content-type': 'application/json' })
  if (fault.code === 'unauthenticated') headers.set('www-authenticate', 'Bearer')
  if (fault.code === 'rate') for (const [name, value] of rateHeaders(fault)) headers.set(name, value)
  return c.newResponse(JSON.stringify({ success: false, ...bodyOf(c, fault) }), statusOf(fault) as 400, Object.fromEntries(headers))
}

/** What a budget that has no room is there: a failed request. */
export const statusOf = (fault: Fault): number => (fault.code === 'budget' ? 500 : fault.status)

/** Without `success`. */
export function bodyOf(c: Context<AppEnv>, fault: Fault): Record<string, unknown> {
  const { code, message, extra, retryAfterS } = fault
  if (code === 'unauthenticated') return { error: whoAreYou(c.req.raw.headers), hint: HINT }
  if (code === 'rate') return { error: TOO_MANY, retryAfter: retryAfterS ?? 1 }
  if (code === 'budget') return { error: `Budget exceeded: ${message}`, budget_exceeded: true, current_cost_usd: extra['spent_usd'] ?? 0, max_budget_usd: extra['limit_usd'] ?? 0 }
  if (code === 'session_not_found') return { error: 'Session not found' }
  return { error: message, ...(retryAfterS === undefined ? {} : { retryAfter: retryAfterS }) }
}

function whoAreYou(headers: Headers): string {
  const authorization = headers.get('authorization')
  if (authorization === null) return headers.has('x-api-key') ? 'Invalid API Key' : 'Missing Authorization header'
  const [scheme = '', token = ''] = authorization.split(' ', 2)
  if (scheme.toLowerCase() === 'basic' && token !== '') return 'Invalid API Key'
  if (scheme.toLowerCase() !== 'bearer' || token === '') return 'Invalid Authorization format'
  return token.startsWith('ccs_ak_') || token.split('.').length === 3 ? 'Invalid API Key' : 'Invalid API Key format'
}

/** As express-rate-limit has them (draft-6), beside those of ours. */
function rateHeaders({ extra, retryAfterS = 1 }: Fault): [string, string][] {
  const { burst } = extra
  const limit: [string, string][] = typeof burst === 'number' ? [['ratelimit-limit', String(burst)]] : []
  return [...limit, ['ratelimit-remaining', '0'], ['ratelimit-reset', String(retryAfterS)]]
}
