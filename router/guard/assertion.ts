/**
 * A runner proves who it is by signing a short JWT with the key it enrolled, and gets an access token for it. Good
 * once, for a minute, and only at the address it names: somebody who was shown one cannot use it elsewhere or again.
 */
import { decodeJwt, errors, importJWK, jwtVerify, type JWTPayload } from 'jose'
import { z } from 'zod'
import { Fault } from '../../shared/faults.ts'
import { RunnerId } from '../../shared/ids.ts'
import { ASSERTION_MAX_S, ASSERTION_TYP, CLOCK_SKEW_S, RUNNER_TOKEN_TTL_S, TOKEN_PATH } from '../../shared/runner-auth.ts'
import type { Deps, RouterSettings, RunnerIdentity } from '../ports.ts'
import { takeAssertion } from '../store/enrolments.ts'
import { findRunner } from '../store/runners.ts'
import { readTenant } from '../store/tenants.ts'
import { refuseByTenant } from './admission.ts'
import { ALGORITHM } from './keys.ts'
import { MAX_TOKEN_BYTES, mint } from './tokens.ts'

const Claims = z.object({ iss: RunnerId, jti: z.string().regex(/^[A-Za-z0-9_-]{16,64}$/), iat: z.number(), exp: z.number() })

export interface Exchanged {
  readonly who: RunnerIdentity
  readonly token: string
  readonly expiresInS: number
}

/**
 * What `aud` may say on a request to `requestUrl`: the token route under our public URL or under the name we were
 * called by. Under either scheme, because TLS may end at a proxy; the name itself has passed the perimeter.
 */
export function assertionAudiences({ publicUrl }: RouterSettings, requestUrl: string): string[] {
  const { host } = new URL(requestUrl)
  const bases = [`https://${host}`, `http://${host}`]
  if (publicUrl !== undefined) bases.push(publicUrl.replace(/\/+$/, ''))
  return bases.map((base) => base + TOKEN_PATH)
}

/**
 * Trades an assertion for a 15-minute token; throws `unauthenticated`, or `forbidden` when the tenant is disabled.
 */
export async function exchangeAssertion(
  { store, platform, keys }: Pick<Deps, 'store' | 'platform' | 'keys'>,
  assertion: string,
  audiences: readonly string[],
): Promise<Exchanged> {
  if (assertion.length > MAX_TOKEN_BYTES) throw refuse()
  const now = platform.now()
  // A runner we do not know, or no longer, and a bad signature get one answer: ids are not for strangers to probe.
  const runner = await findRunner(store.db, claimedRunner(assertion))
  if (!runner || runner.revokedAt !== null) throw refuse()
  const { jti, iat, exp } = await verified(assertion, runner, audiences, now)
  const nowS = now / 1000
  if (exp > nowS + ASSERTION_MAX_S || exp - iat > ASSERTION_MAX_S || iat > nowS + CLOCK_SKEW_S) {
    throw refuse(`the assertion is good for more than ${ASSERTION_MAX_S} s, or the clock of the runner is ahead of ours`)
  }
  // The runner's id is part of the key, so no runner can use up an id of another one.
  const goneAt = (exp + CLOCK_SKEW_S + 1) * 1000
  if (!(await takeAssertion(store.db, `${runner.id}:${jti}`, goneAt))) throw refuse('the assertion was used before')

  const { id, tenant, pool } = runner
  refuseByTenant(tenant, await readTenant(store.db, tenant), now)
  const wish = { kind: 'runner', tenant, subject: id, pool, jti: platform.id(), scopes: [], ttlS: RUNNER_TOKEN_TTL_S } as const
  const { token } = await mint(keys, wish, now)
  return { who: { runner: id, tenant, pool }, token, expiresInS: RUNNER_TOKEN_TTL_S }
}

/** The same for `refresh` on the socket of a runner that dialled `connectUrl`: nobody gets a token for somebody else there. */
export async function refreshToken(deps: Pick<Deps, 'store' | 'platform' | 'keys' | 'settings'>, assertion: string, runner: string, connectUrl: string): Promise<Exchanged> {
  const exchanged = await exchangeAssertion(deps, assertion, assertionAudiences(deps.settings, connectUrl))
  if (exchanged.who.runner !== runner) throw refuse('the assertion is of another runner')
  return exchanged
}

/** Not verified yet: it only says whose key to verify with. */
function claimedRunner(assertion: string): string {
  let payload: JWTPayload
  try {
    payload = decodeJwt(assertion)
  } catch {
    throw refuse()
  }
  const id = RunnerId.safeParse(payload.iss)
  if (!id.success) throw refuse()
  return id.data
}

async function verified(
  assertion: string,
  runner: { id: string; signingJwk: Record<string, unknown> },
  audiences: readonly string[],
  now: number,
): Promise<z.infer<typeof Claims>> {
  const { x } = runner.signingJwk
  if (typeof x !== 'string') throw refuse()
  const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x }, ALGORITHM)
  try {
    const { payload } = await jwtVerify(assertion, key, {
      algorithms: [ALGORITHM],
      typ: ASSERTION_TYP,
      issuer: runner.id,
      subject: runner.id,
      audience: [...audiences],
      requiredClaims: ['iat', 'exp', 'jti'],
      clockTolerance: CLOCK_SKEW_S,
      currentDate: new Date(now),
    })
    const claims = Claims.safeParse(payload)
    if (claims.success) return claims.data
  } catch (error) {
    // The signature was good, so the runner may hear what is wrong with the rest.
    if (error instanceof errors.JWTExpired) throw refuse('the assertion has expired, or the clock of the runner is behind ours')
    if (error instanceof errors.JWTClaimValidationFailed && error.claim === 'aud')
      throw refuse('the assertion is for another address than this router has')
    if (!(error instanceof errors.JOSEError)) throw error
  }
  throw refuse()
}

function refuse(message = 'the assertion is not valid, or not from a runner that is enrolled here'): Fault {
  return new Fault('unauthenticated', message)
}
