/**
 * What every request must pass before anybody asks who it is from: the name it is addressed to, the web page it comes
 * from, and no token in its URL. In this order, so that a hostile page learns nothing but "no".
 *
 * A browser lets any page send requests to loopback. The `Host` check stops a page whose name was rebound to 127.0.0.1
 * (it would be same-origin to the browser), the `Origin` check stops all others.
 */
import { cors } from 'hono/cors'
import type { MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { Fault } from '../../shared/faults.ts'
import type { AppEnv, RouterSettings } from '../ports.ts'
import { refuseTokenInQuery } from './credentials.ts'
import { hostName, isLoopback, isSameOrigin, listedName, parseOrigin } from './host.ts'

const answerCors = cors({
  // Only ever reached by an origin on the list, by our own, or by none.
  origin: (origin) => origin || null,
  allowMethods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
  allowHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'Last-Event-ID', 'Prefer', 'X-Api-Key'],
  exposeHeaders: ['Location', 'RateLimit', 'RateLimit-Policy', 'Retry-After', 'Runyard-Bypass', 'X-Process-Id', 'X-Request-Id', 'X-Run-Id'],
  maxAge: 600,
})

const GATE_RETRY_S = 10

/** For every route. Needs `deps` in the context. */
export function perimeter(): MiddlewareHandler<AppEnv> {
  return createMiddleware<AppEnv>(async (c, next) => {
    const { settings, gate } = c.get('deps')
    if (gate && !(await gate(c.req.raw))) throw new Fault('rate', 'too many requests from this address', { retryAfterS: GATE_RETRY_S })
    const host = addressedHost(c.req.raw, settings)
    const origin = c.req.header('origin')
    const listed = origin !== undefined && checkOrigin(origin, host, settings) === 'listed'
    refuseTokenInQuery(c.req.url)
    // With a list, answers differ by origin and caches have to know. OPTIONS is different: hono's cors answers each one.
    if (listed || (settings.corsOrigins.length > 0 && c.req.method !== 'OPTIONS')) return answerCors(c, next)
    return next()
  })
}

/** For routes that only machines call: a web page has no business there, not even one of ours. */
export const noOrigin = createMiddleware<AppEnv>(async (c, next) => {
  refuseOrigin(c.req.raw)
  await next()
})

export function refuseOrigin(request: Request): void {
  if (request.headers.has('origin')) throw new Fault('origin', 'this route is not for web pages')
}

/** The `Host` of the request, as it was written; throws `host` unless we answer to that name. */
export function addressedHost(request: Request, settings: RouterSettings): string {
  // HTTP/2 has its authority in the URL alone; a request line in absolute form can name another host than the header.
  // A host such as `1.2.3.999` makes a URL that nobody can parse.
  const authority = URL.canParse(request.url) ? new URL(request.url).host : ''
  const host = request.headers.get('host') ?? authority
  for (const value of new Set([host, authority])) {
    const name = hostName(value)
    if (name === undefined || !isOurs(name, settings))
      throw new Fault('host', 'the request is addressed to a host name that is not on the list')
  }
  return host
}

function isOurs(name: string, settings: RouterSettings): boolean {
  if (isLoopback(name)) return true
  if (settings.allowedHosts.some((entry) => listedName(entry) === name)) return true
  return settings.publicUrl !== undefined && hostName(new URL(settings.publicUrl).host) === name
}

function checkOrigin(origin: string, host: string, settings: RouterSettings): 'same' | 'listed' {
  const url = parseOrigin(origin)
  if (url && settings.corsOrigins.some((entry) => entry.toLowerCase().replace(/\/$/, '') === url.origin)) return 'listed'
  if (url && isSameOrigin(url, host)) return 'same'
  throw new Fault('origin')
}
