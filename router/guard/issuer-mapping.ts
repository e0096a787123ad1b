/**
 * How the claims of a foreign token become a principal: what has to be in them, who it is, what it may do. Claims are the
 * issuer's word on who somebody is; what he may do here is ours, so every scope is one that an operator has written down.
 *
 * Nothing is matched but whole values: a pattern that is a little too wide lets in everybody else's repository.
 */
import type { JWTPayload } from 'jose'
import { z } from 'zod'
import { Narrowing } from '../../shared/tenant-settings.ts'
import { APP_SCOPES, type Scope } from '../core/scopes.ts'

/** A claim by its name, or by the names that lead to it, as in `["realm_access", "roles"]`. */
export const ClaimPath = z.union([z.string().min(1).max(128), z.array(z.string().min(1).max(128)).min(1).max(4)])
const ClaimValue = z.union([z.string().max(512), z.number(), z.boolean()])
const AppScope = z.enum(APP_SCOPES)

export const IssuerMapping = z.strictObject({
  subject: ClaimPath.default('sub'),
  require: z
    .array(z.strictObject({ claim: ClaimPath, is: z.union([ClaimValue, z.array(ClaimValue).min(1).max(256)]) }))
    .min(1, 'must name at least one claim: on a public issuer everybody can have a token for any audience')
    .max(16),
  scopes: z.array(AppScope).max(APP_SCOPES.length).default([]),
  /** Each value of the claim that is in the table gives its scopes. */
  scopes_from: z.strictObject({ claim: ClaimPath, table: z.record(z.string().min(1).max(256), z.array(AppScope).max(APP_SCOPES.length)) }).optional(),
  limits: Narrowing.default({}),
})
export type IssuerMapping = z.infer<typeof IssuerMapping>

export type Mapped = { readonly subject: string; readonly scopes: ReadonlySet<Scope>; readonly narrowing: Narrowing }

const MAX_SUBJECT = 256
/** A lone surrogate is no UTF-8 and a NUL ends a text: in the database it would be the subject of somebody else, or of nobody. */
const UNSTORABLE = /[\0\p{Surrogate}]/u

/** Undefined: a required claim is not what it must be, or there is no subject that can be kept. `claims` are verified. */
export function mapClaims(mapping: IssuerMapping, claims: JWTPayload): Mapped | undefined {
  for (const { claim, is } of mapping.require) {
    const wanted = Array.isArray(is) ? is : [is]
    if (!valuesOf(claims, claim).some((value) => wanted.some((one) => one === value))) return undefined
  }
  const subject = claimOf(claims, mapping.subject)
  if (typeof subject !== 'string' || subject === '' || subject.length > MAX_SUBJECT || UNSTORABLE.test(subject)) return undefined
  const scopes = new Set<Scope>(mapping.scopes)
  const { scopes_from: from } = mapping
  if (from) {
    for (const value of valuesOf(claims, from.claim)) {
      if (typeof value === 'string' && Object.hasOwn(from.table, value)) for (const scope of from.table[value] ?? []) scopes.add(scope)
    }
  }
  return { subject, scopes, narrowing: mapping.limits }
}

/** A list is any of its members. */
function valuesOf(claims: JWTPayload, path: z.infer<typeof ClaimPath>): readonly unknown[] {
  const value = claimOf(claims, path)
  return Array.isArray(value) ? value : [value]
}

function claimOf(claims: JWTPayload, path: z.infer<typeof ClaimPath>): unknown {
  let value: unknown = claims
  for (const name of typeof path === 'string' ? [path] : path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}
