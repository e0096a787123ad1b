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
  if (fault.code === 'unauthenticated') {
    const detail = presentsAnything(c.req.raw.headers) ? 'Invalid credentials' : 'Not authenticated'
    return say(c, 401, detail, { 'www-authenticate': 'Basic' })
  }
  const { errors } = fault.extra
  if (fault.code === 'invalid_request' && Array.isArray(errors)) return say(c, 422, errors)
  if (fault.code === 'bad_json') return say(c, 422, [{ type: 'json_invalid', loc: ['body', 0], msg: 'JSON decode error', input: {} }])
  if (fault.code !== 'not_found') return say(c, fault.status, fault.code === 'internal' ? 'Internal Server Error' : fault.message)
  const allow = METHODS.find(([path]) => path.test(c.req.path))?.[1]
  if (allow === undefined || allow === c.req.method) return say(c, 404, 'Not Found')
  return say(c, 405, 'Method Not Allowed', { allow })
}

function say(c: Context<AppEnv>, status: number, detail: unknown, headers: Record<string, string> = {}): Response {
  return c.newResponse(JSON.stringify({ detail }), status as 400, { ...headers, 'content-type': 'application/json' })
}
