/** How claudecode2api says "no": FastAPI's `{detail}`, which is a sentence, or a list of what is wrong with a body. */
import type { Context } from 'hono'
import type { Fault } from '../../../shared/faults.ts'
import type { AppEnv } from '../../ports.ts'
import { BYPASS_HEADER } from '../kit/bypass.ts'
import { presentsAnything } from '../../guard/credentials.ts'

/** A path that is ours, and what may be done there: anything else is a 405. */
const METHODS: readonly (readonly [RegExp, string])[] = [
  [/^\/chat$/, 'POST'],
  [/^\/chat\/[^/]+$/, 'DELETE'],
  [/^\/processes$/, 'GET'],
]

export function refuse(c: Context<AppEnv>, fault: Fault): Response {
  // It tells of a run that goes on, and here is none.
  c.header(BYPASS_HEADER, undefined)
  const headers: Record<string, string> = { 'cache-control': 'no-store' }
  if (fault.retryAfterS !== undefined) headers['retry-after'] = String(fault.retryAfterS)
  if (fault.mayStart) headers['x-should-retry'] = 'false'
  // The rest of the body was not read, so this connection is of no further use.
  if (fault.code === 'too_large') headers['connection'] = 'close'
  if (fault.code === 'unauthenticated') {
    headers['www-authenticate'] = 'Basic'
    return say(c, 401, presentsAnything(c.req.raw.headers) ? 'Invalid credentials' : 'Not authenticated', headers)
  }
  const { errors } = fault.extra
  if (fault.code === 'invalid_request' && Array.isArray(errors)) return say(c, 422, errors, headers)
  if (fault.code === 'bad_json') return say(c, 422, [{ type: 'json_invalid', loc: ['body', 0], msg: 'JSON decode error', input: {} }], headers)
  if (fault.code !== 'not_found') return say(c, fault.status, fault.code === 'internal' ? 'Internal Server Error' : fault.message, headers)
  const allow = METHODS.find(([path]) => path.test(c.req.path))?.[1]
  if (allow === undefined || allow === c.req.method) return say(c, 404, 'Not Found', headers)
  return say(c, 405, 'Method Not Allowed', { ...headers, allow })
}

function say(c: Context<AppEnv>, status: number, detail: unknown, headers: Record<string, string>): Response {
  return c.newResponse(JSON.stringify({ detail }), status as 400, { ...headers, 'content-type': 'application/json' })
}
