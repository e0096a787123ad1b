/**
 * Tokens of trusted issuers (OIDC, GitHub Actions and the like). They make apps, never admins and never runners, and only
 * of the tenant that the issuer was configured for.
 *
 * What can be said without a key is said first, so that nobody makes the router ask an issuer with a token that could not
 * be good anyway.
 */
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JSONWebKeySet, type JWTPayload, type JWTVerifyGetKey } from 'jose'
import { z } from 'zod'
import { CLOCK_SKEW_S } from '../../shared/runner-auth.ts'
import { Fault } from '../../shared/faults.ts'
import type { Principal } from '../ports.ts'
import type { IssuerStanding } from '../store/standings.ts'
import { notValid, refuseByTenant, refuseExpired, type Admission, type GuardDeps } from './admission.ts'
import { IssuerMapping, mapClaims } from './issuer-mapping.ts'

/** Signatures only: with a shared secret everybody who can check a token can make one. */
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA']

const Claims = z.looseObject({ sub: z.string().min(1), iat: z.number(), exp: z.number() })

type Needs = Pick<GuardDeps, 'identity' | 'platform'>

/** `unverified`: the claims as they stand in the token. Throws `unauthenticated`, `forbidden`, and `issuer` when its keys cannot be had. */
export async function admitForeign(deps: Needs, token: string, unverified: JWTPayload): Promise<Admission> {
  const trusted = await issuerOf(deps, unverified)
  const { alg } = decodeProtectedHeader(token)
  if (alg === undefined || !ALGORITHMS.includes(alg)) throw notValid()
  const now = deps.platform.now()
  if (typeof unverified.exp !== 'number' || unverified.exp + CLOCK_SKEW_S <= now / 1_000) throw new Fault('unauthenticated', 'the token has expired')
  const keys = await deps.identity.issuerKeys.of(trusted.url, (set) => canVerify(set, token))
  // A set that was fetched anew is another one, so a key that was taken away is felt as soon as it is known.
  const claims = await deps.identity.verified.foreign.claims(token, keys, () => verifiedClaims(trusted, token, keys, now))
  const who = principalOf(trusted, claims, now)
  const recheck = async () => {
    refuseExpired(who, deps.platform.now())
    const still = (await deps.identity.registry.issuers()).find(({ id }) => id === trusted.id)
    // What it may do was written anew: whoever is let in by the old word has to ask again.
    if (!still || still.tenant !== who.tenant || JSON.stringify(still.mapping) !== JSON.stringify(trusted.mapping)) throw untrusted()
    refuseByTenant(who.tenant, still, who.issuedAt)
  }
  await recheck()
  return { who, recheck }
}

/** The one that is meant by `iss` and `aud`, as they were configured and to the letter. */
async function issuerOf({ identity }: Needs, { iss, aud }: JWTPayload): Promise<IssuerStanding> {
  const audiences = Array.isArray(aud) ? aud : [aud]
  const [found, other] = (await identity.registry.issuers()).filter(({ url, audience }) => url === iss && audiences.includes(audience))
  // A token for two of our audiences does not say which tenant it means.
  if (!found || other) throw untrusted()
  return found
}

/** Whether the set has the key that the token names. One of a kind that is not known cannot, and must not fail here. */
function canVerify(set: JSONWebKeySet, token: string): boolean {
  const { kid } = decodeProtectedHeader(token)
  return kid === undefined ? set.keys.length > 0 : set.keys.some((key) => key.kid === kid)
}

async function verifiedClaims({ url, audience }: IssuerStanding, token: string, keys: JSONWebKeySet, now: number): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, keyIn(keys), {
      algorithms: ALGORITHMS,
      issuer: url,
      audience,
      requiredClaims: ['exp', 'iat', 'sub'],
      clockTolerance: CLOCK_SKEW_S,
      currentDate: new Date(now),
    })
    return payload
  } catch (error) {
    if (error instanceof errors.JWTExpired) throw new Fault('unauthenticated', 'the token has expired')
    if (error instanceof errors.JOSEError) throw notValid()
    // A key that this runtime cannot use: another issuer's mistake is no error of ours.
    throw Object.assign(notValid(), { cause: error })
  }
}

/** Imported keys are kept as long as the set that they are in, which is plain data. */
const imported = new WeakMap<JSONWebKeySet, JWTVerifyGetKey>()

function keyIn(set: JSONWebKeySet): JWTVerifyGetKey {
  const known = imported.get(set) ?? createLocalJWKSet(set)
  imported.set(set, known)
  return known
}

function principalOf({ id, tenant, mapping }: IssuerStanding, payload: JWTPayload, now: number): Principal {
  const claims = Claims.safeParse(payload)
  if (!claims.success) throw notValid()
  const { iat, exp } = claims.data
  if (iat > now / 1_000 + CLOCK_SKEW_S) throw new Fault('unauthenticated', 'the token is not valid yet')
  const mapped = mapClaims(IssuerMapping.parse(mapping), payload)
  if (!mapped) throw new Fault('unauthenticated', 'the claims of the token are not those that this router asks of its issuer')
  return {
    kind: 'app',
    tenant,
    subject: mapped.subject,
    scopes: mapped.scopes,
    // Not its `jti`: whoever gets a new token for each job would have a new budget each time.
    jti: `${id}/${mapped.subject}`,
    narrowing: mapped.narrowing,
    issuedAt: iat * 1_000,
    expiresAt: exp * 1_000,
    from: 'issuer',
    pool: undefined,
  }
}

function untrusted(): Fault {
  return new Fault('unauthenticated', 'the token is not from an issuer that is trusted here')
}

/** The claims of a JWT that nobody has verified: they say whom to ask, and nothing else. */
export function unverifiedClaims(token: string): JWTPayload {
  try {
    decodeProtectedHeader(token)
    return decodeJwt(token)
  } catch {
    throw notValid()
  }
}
