/**
 * Middlewares that turn a token into a principal and hold it against what a route asks for. 401: we do not know who
 * you are. 403: we know, and it is not for you.
 *
 * An admin token is good on app routes, an app token never on admin routes, and a runner's only on runner routes.
 */
import type { Context, MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { Fault } from '../../shared/faults.ts'
import type { Scope } from '../core/scopes.ts'
import type { AppEnv, Db, Principal } from '../ports.ts'
import { findRunner } from '../store/runners.ts'
import { findToken } from '../store/tokens.ts'
import { readToken } from './credentials.ts'
import { refuseOrigin } from './perimeter.ts'
import { verify } from './tokens.ts'

/** For app routes: an app or admin token that carries `scope`. */
export function requireScope(scope: Scope): MiddlewareHandler<AppEnv> {
  return guard((who) => {
    if (who.kind === 'runner') throw new Fault('forbidden', 'a runner token is good for runner routes only')
    if (!who.scopes.has(scope)) throw new Fault('forbidden', `the token lacks the scope ${scope}`, { extra: { scope } })
  })
}

/** For admin routes: an admin token. */
export function requireAdmin(): MiddlewareHandler<AppEnv> {
  return guard((who) => {
    if (who.kind !== 'admin' || !who.scopes.has('admin'))
      throw new Fault('forbidden', `this route takes an admin token, not one of kind ${who.kind}`)
  })
}

/** For the routes of an enrolled runner, never for a web page. The principal's subject is the runner's id. */
export function requireRunner(): MiddlewareHandler<AppEnv> {
  return createMiddleware<AppEnv>(async (c, next) => {
    refuseOrigin(c.req.raw)
    const who = await authenticate(c)
    if (who.kind !== 'runner') throw new Fault('forbidden', `this route takes a runner token, not one of kind ${who.kind}`)
    c.set('principal', who)
    await next()
  })
}

function guard(allow: (who: Principal) => void): MiddlewareHandler<AppEnv> {
  return createMiddleware<AppEnv>(async (c, next) => {
    const who = await authenticate(c)
    allow(who)
    c.set('principal', who)
    await next()
  })
}

async function authenticate(c: Context<AppEnv>): Promise<Principal> {
  const { keys, platform, store } = c.get('deps')
  const who = await verify(keys, readToken(c.req.raw.headers), platform.now())
  await refuseRevoked(store.db, who)
  return who
}

/**
 * Throws `unauthenticated` when the record says no: the token or its runner was revoked, or belongs to somebody else
 * than the claims say. One indexed read per request, here and nowhere else, so that a cache has one place to go.
 *
 * An app or admin token without a row is taken: rows are pruned, and the signature is ours. A runner without one is not.
 */
async function refuseRevoked(db: Db, who: Principal): Promise<void> {
  if (who.kind === 'runner') {
    const row = await findRunner(db, who.subject)
    if (!row || row.revokedAt !== null) throw new Fault('unauthenticated', 'the runner is not enrolled, or was revoked')
    if (row.tenant !== who.tenant || row.pool !== who.pool)
      throw new Fault('unauthenticated', 'the runner has moved; it needs a new token')
    return
  }
  const row = await findToken(db, who.jti)
  if (!row) return
  if (row.revokedAt !== null) throw new Fault('unauthenticated', 'the token was revoked')
  if (row.tenant !== who.tenant || row.kind !== who.kind) throw new Fault('unauthenticated', 'the token is not valid')
}
