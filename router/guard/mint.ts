/** Making a token for an app or a person, with the record that lets it be revoked. Who may ask is the caller's business. */
import { Fault } from '../../shared/faults.ts'
import type { Narrowing } from '../../shared/tenant-settings.ts'
import { APP_DEFAULT_SCOPES, SCOPES, type Scope } from '../core/scopes.ts'
import type { Deps } from '../ports.ts'
import { haveTenant } from '../store/tenant-pages.ts'
import { tokenInsertion, type TokenRow } from '../store/tokens.ts'
import { MAX_TOKEN_BYTES, mint } from './tokens.ts'

export const DEFAULT_TTL_S = 30 * 86_400
export const MAX_TTL_S = 365 * 86_400

export interface TokenWish {
  readonly kind: 'app' | 'admin'
  readonly tenant: string
  readonly subject: string
  /** Of an app token; an admin token has every scope. */
  readonly scopes?: readonly Scope[] | undefined
  readonly narrowing?: Narrowing | undefined
  /** Tokens that are revoked together. */
  readonly family?: string | undefined
  readonly ttlS?: number | undefined
}

export interface Minted {
  /** It is nowhere but here. */
  readonly token: string
  readonly row: TokenRow
}

type Needs = Pick<Deps, 'store' | 'platform' | 'keys'>

/** Throws `invalid_request` when so much was put into it that no request could carry it. Writing the row is left to the caller. */
export async function newToken({ platform, keys }: Pick<Deps, 'platform' | 'keys'>, wish: TokenWish): Promise<Minted> {
  const now = platform.now()
  const jti = platform.id()
  const { kind, tenant, subject, narrowing, family = null, ttlS = DEFAULT_TTL_S } = wish
  const scopes = kind === 'admin' ? SCOPES : (wish.scopes ?? APP_DEFAULT_SCOPES)
  const { token, expiresAt } = await mint(keys, { kind, tenant, subject, jti, scopes, narrowing, ttlS }, now)
  if (token.length > MAX_TOKEN_BYTES) {
    throw new Fault('invalid_request', `limits: the token would be longer than ${MAX_TOKEN_BYTES} bytes; name fewer pools or models`, { extra: { field: 'limits' } })
  }
  return { token, row: { jti, tenant, kind, subject, scopes: scopes.join(' '), family, narrowing: narrowing ?? null, createdAt: now, expiresAt, revokedAt: null } }
}

/** With its record, and its tenant where that is new. `expiresAt` in milliseconds. */
export async function mintToken(deps: Needs, wish: TokenWish): Promise<{ token: string; jti: string; expiresAt: number }> {
  const { token, row } = await newToken(deps, wish)
  const { db } = deps.store
  await deps.store.batch([haveTenant(db, row.tenant, row.createdAt), tokenInsertion(db, row)])
  return { token, jti: row.jti, expiresAt: row.expiresAt }
}
