/** Making a token for an app or a person, with the record that lets it be revoked. Who may ask is the caller's business. */
import { APP_DEFAULT_SCOPES, SCOPES, type Scope } from '../core/scopes.ts'
import type { Deps } from '../ports.ts'
import { ensureTenant } from '../store/tenants.ts'
import { insertToken } from '../store/tokens.ts'
import { mint } from './tokens.ts'

export const DEFAULT_TTL_S = 30 * 86_400
export const MAX_TTL_S = 365 * 86_400

export interface TokenWish {
  readonly kind: 'app' | 'admin'
  readonly tenant: string
  readonly subject: string
  /** Of an app token; an admin token has every scope. */
  readonly scopes?: readonly Scope[] | undefined
  readonly ttlS?: number | undefined
}

/** `expiresAt` in milliseconds. The token is nowhere but in the answer. */
export async function mintToken(
  { store, platform, keys }: Pick<Deps, 'store' | 'platform' | 'keys'>,
  wish: TokenWish,
): Promise<{ token: string; jti: string; expiresAt: number }> {
  const now = platform.now()
  const jti = platform.id()
  const { kind, tenant, subject, ttlS = DEFAULT_TTL_S } = wish
  const scopes = kind === 'admin' ? SCOPES : (wish.scopes ?? APP_DEFAULT_SCOPES)
  const { token, expiresAt } = await mint(keys, { kind, tenant, subject, jti, scopes, ttlS }, now)
  await ensureTenant(store.db, tenant, now)
  await insertToken(store.db, { jti, tenant, kind, subject, scopes: scopes.join(' '), family: null, narrowing: null, createdAt: now, expiresAt })
  return { token, jti, expiresAt }
}
