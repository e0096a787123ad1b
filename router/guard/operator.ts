/**
 * Whose things an admin may see and change. The admins of the tenant `default` run the router: they may name any tenant.
 * Those of every other tenant have their own and nothing else.
 *
 * Every admin route asks here. For a thing that is not within reach the answer is the route's own 404: that it exists
 * somewhere else is nobody's business.
 */
import type { Context } from 'hono'
import { Fault } from '../../shared/faults.ts'
import type { AppEnv, Principal } from '../ports.ts'

/** The tenant of those who run the router. */
export const OPERATOR_TENANT = 'default'

/** Has to be an admin, which `requireAdmin` sees to. */
export function isOperator(who: Pick<Principal, 'kind' | 'tenant'>): boolean {
  return who.kind === 'admin' && who.tenant === OPERATOR_TENANT
}

/** The tenant that a request is about: that of its admin, unless an operator names another. Throws `forbidden` for anybody else who does. */
export function tenantOf(c: Context<AppEnv>, wished: string | undefined): string {
  const who = c.get('principal')
  if (wished === undefined || wished === who.tenant) return who.tenant
  if (isOperator(who)) return wished
  throw new Fault('forbidden', `tenant: an admin of ${who.tenant} acts for no other tenant`, { extra: { field: 'tenant' } })
}

/** For a row that was found by its id alone. False: answer as if it was not there. */
export function mayReach(who: Pick<Principal, 'kind' | 'tenant'>, row: { readonly tenant: string }): boolean {
  return row.tenant === who.tenant || isOperator(who)
}

/** For what belongs to the router as a whole, such as its signing keys. Throws `forbidden`. */
export function mustOperate(c: Context<AppEnv>): void {
  if (!isOperator(c.get('principal'))) throw new Fault('forbidden', `this is for admins of the tenant ${OPERATOR_TENANT}`)
}
