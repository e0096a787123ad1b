/**
 * Middlewares that turn what a request carries into a principal and hold it against what a route asks for. 401: we do not
 * know who you are. 403: we know, and it is not for you.
 *
 * An admin token is good on app routes, an app token never on admin routes, and a runner's only on runner routes. Foreign
 * issuers and keys of older servers make apps and nothing else.
 */
import type { Context, MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { Fault } from '../../shared/faults.ts'
import type { Scope } from '../core/scopes.ts'
import type { AppEnv, Principal } from '../ports.ts'
import type { Admission, GuardDeps } from './admission.ts'
import { admitAnonymous } from './anonymous.ts'
import { looksLikeJwt, presentsAnything, readPresented, type Presented } from './credentials.ts'
import { admitForeign, unverifiedClaims } from './foreign-tokens.ts'
import { admitLegacy } from './legacy.ts'
import { classOf, limited, strangersAddress } from './limits.ts'
import { admitKnown, admitOwn } from './own-tokens.ts'
import { refuseOrigin } from './perimeter.ts'

/** For app routes: an app or admin token that carries `scope`. */
export function requireScope(scope: Scope): MiddlewareHandler<AppEnv> {
  return guard(appWith(scope))
}

/** The same, or nobody at all where an operator lets him in: for routes of the dialect that knew no tokens. */
export function requireScopeOrNobody(scope: Scope): MiddlewareHandler<AppEnv> {
  return guard(appWith(scope), { letsNobodyIn: true })
}

const appWith = (scope: Scope) => (who: Principal) => {
  if (who.kind === 'runner') throw new Fault('forbidden', 'a runner token is good for runner routes only')
  if (!who.scopes.has(scope)) throw new Fault('forbidden', `the token lacks the scope ${scope}`, { extra: { scope } })
}

/** For admin routes: an admin token. */
export function requireAdmin(): MiddlewareHandler<AppEnv> {
  return guard(
    (who) => {
      if (who.kind !== 'admin' || !who.scopes.has('admin'))
        throw new Fault('forbidden', `this route takes an admin token, not one of kind ${who.kind}`)
    },
    { isAdminRoute: true },
  )
}

/** For the routes of an enrolled runner, never for a web page. The principal's subject is the runner's id. */
export function requireRunner(): MiddlewareHandler<AppEnv> {
  return guard(
    (who) => {
      if (who.kind !== 'runner') throw new Fault('forbidden', `this route takes a runner token, not one of kind ${who.kind}`)
    },
    { before: (c) => refuseOrigin(c.req.raw) },
  )
}

type Route = { readonly isAdminRoute?: boolean; readonly letsNobodyIn?: boolean; readonly before?: (c: Context<AppEnv>) => void }

function guard(allow: (who: Principal) => void, { isAdminRoute = false, letsNobodyIn = false, before }: Route = {}): MiddlewareHandler<AppEnv> {
  return createMiddleware<AppEnv>(async (c, next) => {
    before?.(c)
    const deps = c.get('deps')
    const { headers } = c.req.raw
    const nobody = letsNobodyIn && !presentsAnything(headers) ? await admitAnonymous(deps) : undefined
    const { who, recheck } = nobody ?? (await admit(deps, readPresented(headers), strangersAddress(c)))
    allow(who)
    c.set('principal', who)
    c.set('recheck', recheck)
    await limited(c, who, classOf(c, who, isAdminRoute), next)
  })
}

/** Who this is, by whatever he presents. Throws `unauthenticated`, `forbidden`, `issuer`, `rate`. */
export async function admit(deps: GuardDeps, presented: Presented, address?: string): Promise<Admission> {
  if (presented.kind === 'pair' || !looksLikeJwt(presented.token)) return admitLegacy(deps, presented, address)
  const known = await admitKnown(deps, presented.token)
  if (known) return known
  const claims = unverifiedClaims(presented.token)
  return claims.iss === deps.keys.issuer ? admitOwn(deps, presented.token) : admitForeign(deps, presented.token, claims)
}
