/**
 * The last question about somebody whose token, key or password is good by itself: what his tenant and the clock say.
 * The same question is asked again for as long as an answer streams (guard/watch).
 */
import { Fault } from '../../shared/faults.ts'
import { CLOCK_SKEW_S } from '../../shared/runner-auth.ts'
import type { Deps, Principal } from '../ports.ts'
import type { TenantStanding } from '../store/standings.ts'

/** Somebody who was let in. `recheck` reads the record again, through its cache, and throws the fault that ends the visit. */
export interface Admission {
  readonly who: Principal
  readonly recheck: Recheck
}
export type Recheck = () => Promise<void>

export type GuardDeps = Pick<Deps, 'keys' | 'vault' | 'identity' | 'platform'>

/** `issuedAt` and `now` in milliseconds. */
export function refuseByTenant(tenant: string, standing: TenantStanding | undefined, issuedAt: number): void {
  if (!standing) return
  if (standing.disabledAt !== null) throw new Fault('forbidden', `the tenant ${tenant} is disabled`)
  if (standing.revokedBefore !== null && issuedAt < standing.revokedBefore) throw new Fault('unauthenticated', 'the tokens of this tenant were revoked')
}

export function refuseExpired({ expiresAt }: Pick<Principal, 'expiresAt'>, now: number): void {
  if (now >= expiresAt + CLOCK_SKEW_S * 1_000) throw new Fault('unauthenticated', 'the token has expired')
}

/** Says nothing of what is wrong with it. */
export const notValid = (): Fault => new Fault('unauthenticated', 'the token is not valid')
