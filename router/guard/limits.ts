/**
 * How often a caller may ask: what is set for its tenant and for its token, by the class of the route. Who is limited hears
 * where he stands in every answer (draft-ietf-httpapi-ratelimit-headers-09), and who is not costs nothing.
 *
 * How requests are counted, and that replicas count together, is the host's Limiter's business.
 */
import type { Context, MiddlewareHandler } from 'hono'
import { createMiddleware } from 'hono/factory'
import { Fault } from '../../shared/faults.ts'
import { ROUTE_CLASSES, type Rate, type RouteClass } from '../../shared/tenant-settings.ts'
import { burstMs } from '../core/gcra.ts'
import type { AppEnv, Deps, Draw, Principal, RateDecision } from '../ports.ts'

/** RFC 9457 types of the draft's own registration. */
const QUOTA_EXCEEDED = 'https://iana.org/assignments/http-problem-types#quota-exceeded'
/** For routes that take no token, from one address: generous, as many machines may stand behind one. */
const ADDRESS_RATE = { rate: 10, burst: 300 }

type Scope = 'tenant' | 'token' | 'address'
/** A limit by the name that clients see. */
type Named = Draw & { readonly scope: Scope; readonly name: string }

/** What a request on a route of this class is counted against. */
export async function drawsOf({ catalog }: Pick<Deps, 'catalog'>, who: Principal, of: RouteClass): Promise<Named[]> {
  const { rates, token_rates } = (await catalog.tenant(who.tenant))?.settings.limits ?? {}
  const draws: Named[] = []
  const add = (scope: Scope, rate: Draw['rate'] | undefined, key: string) =>
    rate && draws.push({ key, rate, scope, name: `${scope}-${of}` })
  add('tenant', rates?.[of], `${who.tenant}/${of}`)
  add('token', tighter(who.narrowing.rates?.[of], token_rates?.[of]), `${who.tenant}/${who.jti}/${of}`)
  return draws
}

/** What a token carries may be less than what its tenant has for each token, and never more. */
function tighter(own: Rate | undefined, set: Rate | undefined): Rate | undefined {
  if (!own || !set) return own ?? set
  return { rate: Math.min(own.rate, set.rate), burst: Math.min(own.burst, set.burst) }
}

/** Looking is one class and starting or changing something is another; administration is a third. */
export function classOf(c: Context<AppEnv>, who: Principal, isAdminRoute: boolean): RouteClass | undefined {
  if (who.kind === 'runner') return undefined
  if (isAdminRoute) return 'admin'
  return c.req.method === 'GET' || c.req.method === 'HEAD' ? 'read' : 'write'
}

/** Goes on when there is room; throws `rate` when there is none. */
export async function limited(
  c: Context<AppEnv>,
  who: Principal,
  of: RouteClass | undefined,
  next: () => Promise<void>,
): Promise<void> {
  const deps = c.get('deps')
  const [first, ...others] = of === undefined ? [] : await drawsOf(deps, who, of)
  if (!first) return next()
  const draws = [first, ...others]
  const decision = await deps.limiter.take(who.tenant, [bare(first), ...others.map(bare)])
  const nearest = draws.find(({ key }) => key === decision.limit.key) ?? first
  const fields = fieldsOf(draws, nearest, decision)
  if (!decision.ok) {
    for (const [name, value] of Object.entries(fields)) c.header(name, value)
    throw tooMany(nearest, decision.retryAfterMs)
  }
  await next()
  // Behind it, so that whatever became of the request carries them too.
  for (const [name, value] of Object.entries(fields)) c.res.headers.set(name, value)
}

/** For routes that take no token: so many from one address, where the host knows addresses and has no gate of its own. */
export const limitedByAddress: MiddlewareHandler<AppEnv> = createMiddleware<AppEnv>(async (c, next) => {
  const { addresses } = c.get('deps')
  const address = strangersAddress(c)
  if (address !== undefined) {
    const draw: Named = { key: address, rate: ADDRESS_RATE, scope: 'address', name: 'address' }
    const decision = await addresses?.take('', [draw])
    if (decision && !decision.ok) throw tooMany(draw, decision.retryAfterMs)
  }
  await next()
})

/** Where a request comes from, if that says anything: behind a proxy on this machine everybody has the same address. */
export function strangersAddress(c: Context<AppEnv>): string | undefined {
  const address = c.get('deps').platform.clientIp?.(c)
  return address === undefined || isOwn(address) ? undefined : address
}

/** What the limiter is told, which may be in another process. */
const bare = ({ key, rate }: Draw): Draw => ({ key, rate })

function isOwn(address: string): boolean {
  return /^(?:::ffff:)?127\./i.test(address) || address === '::1'
}

const WHOSE: Record<Scope, string> = { tenant: 'of this tenant', token: 'with this token', address: 'from this address' }

function tooMany({ scope, name, rate }: Named, retryAfterMs: number): Fault {
  const of = ROUTE_CLASSES.find((one) => name.endsWith(`-${one}`))
  const message = `too many ${of ? `${of} ` : ''}requests ${WHOSE[scope]}: ${rate.burst} at once and ${rate.rate} a second`
  const limit = { limit: scope, ...(of ? { class: of } : {}), rate: rate.rate, burst: rate.burst }
  return new Fault('rate', message, {
    retryAfterS: seconds(retryAfterMs),
    extra: { type: QUOTA_EXCEEDED, 'violated-policies': [name], ...limit },
  })
}

/** Structured fields (RFC 9651): lists of strings with parameters. Nothing in the names needs escaping. */
function fieldsOf(draws: readonly Named[], { name }: Named, decision: RateDecision): Record<string, string> {
  const [left, waitMs] = decision.ok ? [decision.remaining, decision.resetMs] : [0, decision.retryAfterMs]
  return {
    'ratelimit-policy': draws.map((d) => `"${d.name}";q=${d.rate.burst};w=${seconds(burstMs(d.rate))}`).join(', '),
    ratelimit: `"${name}";r=${left};t=${seconds(waitMs)}`,
  }
}

/** Whole ones, as HTTP has them; a year is as good as for ever. */
function seconds(ms: number): number {
  return Math.min(31_536_000, Math.max(1, Math.ceil(ms / 1_000)))
}
