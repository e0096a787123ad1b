/** Faults as RFC 9457 problem documents: the native dialect of "no". */
import type { Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { Fault, FAULTS } from '../../shared/faults.ts'
import type { AppEnv } from '../ports.ts'

/** Whatever was thrown, as a fault. Only what is one already tells the client anything; the rest is `internal`, logged by the caller. */
export function asFault(error: unknown): Fault {
  // A database query wraps what went wrong below it.
  for (let e = error; e instanceof Error; e = e.cause) if (e instanceof Fault) return e
  if (error instanceof HTTPException) {
    if (error.status === 400) return new Fault('bad_json')
    if (error.status === 413) return new Fault('too_large')
    if (error.status === 415) return new Fault('media_type')
    if (error.status === 401) return new Fault('unauthenticated')
  }
  return new Fault('internal')
}

/** What every "no" says in its headers, in whatever dialect its body is. */
export function refusalHeaders(c: Context<AppEnv>, fault: Fault): void {
  c.header('cache-control', 'no-store')
  if (fault.retryAfterS !== undefined) c.header('retry-after', String(fault.retryAfterS))
  if (fault.mayStart) c.header('x-should-retry', 'false')
  // The rest of the body was not read, so this connection is of no further use.
  if (fault.code === 'too_large') c.header('connection', 'close')
}

export function problem(c: Context<AppEnv>, fault: Fault): Response {
  const headers = new Headers({ 'content-type': 'application/problem+json' })
  if (fault.code === 'unauthenticated') headers.set('www-authenticate', 'Bearer realm="runyard"')
  if (fault.code === 'version') headers.set('upgrade', 'runyard.v1')
  const body = {
    type: 'about:blank',
    ...fault.extra,
    title: FAULTS[fault.code].title,
    status: fault.status,
    detail: fault.message,
    code: fault.code,
    retryable: fault.retryable,
    request_id: c.get('requestId'),
  }
  return c.newResponse(JSON.stringify(body), fault.status as 400, Object.fromEntries(headers))
}
