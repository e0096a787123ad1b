/**
 * The three kinds of token that we mint and how each is told from the others: `typ` and `aud` differ per kind, the
 * algorithm is pinned, and every claim that a decision rests on is required.
 *
 * Only the signature and the claims are judged here. Whether a token was revoked is the caller's question to the store.
 */
import { decodeProtectedHeader, errors, jwtVerify } from 'jose'
import { z } from 'zod'
import { Fault } from '../../shared/faults.ts'
import { Name, TenantId } from '../../shared/ids.ts'
import { CLOCK_SKEW_S } from '../../shared/runner-auth.ts'
import { Narrowing } from '../../shared/tenant-settings.ts'
import { APP_SCOPES, parseScopes, SCOPES, type Scope } from '../core/scopes.ts'
import type { Principal } from '../ports.ts'
import { ALGORITHM, type Keys } from './keys.ts'

export type TokenKind = Principal['kind']

/** Longer than any token of ours; what is longer is refused before anything parses it. */
export const MAX_TOKEN_BYTES = 8_192

const KINDS = {
  app: { typ: 'runyard-app+jwt', aud: 'runyard:app', grantable: APP_SCOPES },
  admin: { typ: 'runyard-admin+jwt', aud: 'runyard:admin', grantable: SCOPES },
  runner: { typ: 'runyard-runner+jwt', aud: 'runyard:runner', grantable: [] },
} as const satisfies Record<TokenKind, { typ: string; aud: string; grantable: readonly Scope[] }>

const Claims = z.object({
  sub: z.string().min(1).max(256),
  jti: z.string().min(1).max(128),
  iat: z.number(),
  exp: z.number(),
  tenant: TenantId,
  scope: z.string().max(1024),
  pool: Name.optional(),
  /** One that this version does not know in full is refused: what it forbids is not to be guessed. */
  limits: Narrowing.optional(),
})

export interface NewToken {
  readonly kind: TokenKind
  readonly tenant: string
  readonly subject: string
  readonly jti: string
  readonly scopes: readonly Scope[]
  readonly pool?: string
  readonly narrowing?: Narrowing | undefined
  readonly ttlS: number
}

/** Signs a token; `now` in milliseconds. It is stored nowhere. */
export async function mint(keys: Pick<Keys, 'sign'>, token: NewToken, now: number): Promise<{ token: string; expiresAt: number }> {
  const { typ, aud } = KINDS[token.kind]
  const iat = Math.floor(now / 1000)
  const exp = iat + token.ttlS
  const { tenant, subject: sub, jti, pool, narrowing } = token
  const optional = { ...(pool === undefined ? {} : { pool }), ...(narrowing === undefined ? {} : { limits: narrowing }) }
  const claims = { aud, sub, jti, iat, exp, tenant, scope: token.scopes.join(' '), ...optional }
  return { token: await keys.sign(typ, claims), expiresAt: exp * 1000 }
}

/** Throws `unauthenticated` unless `token` is one of ours and good at `now` (milliseconds). */
export async function verify(keys: Keys, token: string, now: number): Promise<Principal> {
  if (token.length > MAX_TOKEN_BYTES) throw new Fault('unauthenticated', `the token is longer than ${MAX_TOKEN_BYTES} bytes`)
  const kind = kindOf(keys, token)
  const { typ, aud, grantable } = KINDS[kind]
  const claims = await verifiedClaims(keys, token, typ, aud, now)
  // jose looks at `iat` only to find a token too old; one from the future was signed by a wrong clock, or predated on purpose.
  if (claims.iat > now / 1000 + CLOCK_SKEW_S) throw new Fault('unauthenticated', 'the token is not valid yet')
  if ((kind === 'runner') !== (claims.pool !== undefined)) throw invalid()
  const { tenant, sub: subject, jti, pool } = claims
  return {
    kind,
    tenant,
    subject,
    jti,
    pool,
    scopes: parseScopes(claims.scope, grantable),
    narrowing: claims.limits ?? {},
    issuedAt: claims.iat * 1_000,
    expiresAt: claims.exp * 1_000,
    from: 'router',
  }
}

/** From the header alone, which is not verified yet: it only picks what the token is then held against. */
function kindOf(keys: Keys, token: string): TokenKind {
  let header: ReturnType<typeof decodeProtectedHeader>
  try {
    header = decodeProtectedHeader(token)
  } catch {
    throw invalid()
  }
  if (header.kid !== keys.kid) throw new Fault('unauthenticated', 'the token was not signed by this router')
  for (const kind of ['app', 'admin', 'runner'] as const) if (KINDS[kind].typ === header.typ) return kind
  throw invalid()
}

async function verifiedClaims(
  keys: Keys,
  token: string,
  typ: string,
  audience: string,
  now: number,
): Promise<z.infer<typeof Claims>> {
  try {
    const { payload } = await jwtVerify(token, keys.publicKey, {
      algorithms: [ALGORITHM],
      typ,
      audience,
      issuer: keys.issuer,
      requiredClaims: ['exp', 'iat', 'sub', 'jti', 'tenant', 'scope'],
      clockTolerance: CLOCK_SKEW_S,
      currentDate: new Date(now),
    })
    const claims = Claims.safeParse(payload)
    if (claims.success) return claims.data
  } catch (error) {
    // Only after the signature was found good, so this tells nothing to somebody who guesses.
    if (error instanceof errors.JWTExpired) throw new Fault('unauthenticated', 'the token has expired')
    if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'nbf')
      throw new Fault('unauthenticated', 'the token is not valid yet')
    if (!(error instanceof errors.JOSEError)) throw error
  }
  throw invalid()
}

function invalid(): Fault {
  return new Fault('unauthenticated', 'the token is not valid')
}
