/**
 * What a token may do. There are no wildcards: a scope is on this list or it does not exist.
 *
 * Which route asks for which scope is the route's business.
 */
export const SCOPES = [
  'runs:write',
  'runs:read',
  'sessions:read',
  'sessions:write',
  'config:read',
  'config:write',
  'stats:read',
  'approvals:decide',
  'runs:bypass',
  'admin',
] as const
export type Scope = (typeof SCOPES)[number]

/** Everything an app token can be given: all but `admin`. */
export const APP_SCOPES = SCOPES.filter((scope) => scope !== 'admin')

/** What an app token gets unless somebody asks for something else. */
export const APP_DEFAULT_SCOPES = [
  'runs:write',
  'runs:read',
  'sessions:read',
  'sessions:write',
  'stats:read',
  'config:read',
] as const satisfies readonly Scope[]

/** Reads a space separated scope claim. A name that is not in `grantable` gives nothing. */
export function parseScopes(claim: string, grantable: readonly Scope[]): ReadonlySet<Scope> {
  const named = new Set(claim.split(' '))
  return new Set(grantable.filter((scope) => named.has(scope)))
}
