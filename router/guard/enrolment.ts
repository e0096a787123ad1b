/**
 * How a machine becomes a runner: an admin makes a one-time token, the machine trades it and its public keys for an id.
 * After that nothing is shared: the router keeps no secret of a runner, and a stolen database enrols nobody.
 */
import { base64url, importJWK } from 'jose'
import { Fault } from '../../shared/faults.ts'
import type { EnrollRequest } from '../../shared/runner-auth.ts'
import type { Deps } from '../ports.ts'
import { insertEnrolment, takeEnrolment, type Enrolment } from '../store/enrolments.ts'
import { insertRunner } from '../store/runners.ts'
import { ensureTenant, readTenant } from '../store/tenants.ts'
import { refuseByTenant } from './admission.ts'
import { ALGORITHM } from './keys.ts'

export const ENROLMENT_TTL_S = 3_600

type Needs = Pick<Deps, 'store' | 'platform'>

export interface EnrolmentWish {
  readonly tenant: string
  readonly pool: string
  readonly ttlS?: number | undefined
}

/** A token and what is kept of it. */
export async function newEnrolment({ tenant, pool, ttlS = ENROLMENT_TTL_S }: EnrolmentWish, now: number): Promise<{ token: string; enrolment: Enrolment }> {
  const token = `ret_${base64url.encode(crypto.getRandomValues(new Uint8Array(32)))}`
  return { token, enrolment: { hash: await sha256(token), tenant, pool, createdAt: now, expiresAt: now + ttlS * 1000 } }
}

/** `expiresAt` in milliseconds. Only the hash of the token is stored. */
export async function mintEnrolmentToken({ store, platform }: Needs, wish: EnrolmentWish): Promise<{ token: string; expiresAt: number }> {
  const now = platform.now()
  const { token, enrolment } = await newEnrolment(wish, now)
  await ensureTenant(store.db, wish.tenant, now)
  await insertEnrolment(store.db, enrolment)
  return { token, expiresAt: enrolment.expiresAt }
}

/** Throws `invalid_request` for a bad key, `unauthenticated` for a bad token; in both cases nothing has changed. */
export async function enrollRunner(
  { store, platform }: Needs,
  request: EnrollRequest,
): Promise<{ runner: string; tenant: string; pool: string }> {
  // Before the token is used up: a machine with a broken key keeps its chance.
  await checkKey(request.signing_jwk, ALGORITHM, 'signing_jwk')
  await checkKey(request.sealing_jwk, 'ECDH-ES', 'sealing_jwk')
  const now = platform.now()
  const enrolment = await takeEnrolment(store.db, { hash: await sha256(request.token), pool: request.pool }, now)
  // One answer for all of them: which tokens exist is not for strangers.
  if (!enrolment) throw new Fault('unauthenticated', 'the enrolment token is unknown, expired, already used, or for another pool')
  const { tenant, pool } = enrolment
  refuseByTenant(tenant, await readTenant(store.db, tenant), enrolment.createdAt)
  const runner = `rnr_${platform.id()}`
  const { name, labels, signing_jwk: signing, sealing_jwk: sealing } = request
  await insertRunner(store.db, {
    id: runner,
    tenant,
    pool,
    name,
    labels,
    signingJwk: { kty: signing.kty, crv: signing.crv, x: signing.x },
    sealingJwk: { kty: sealing.kty, crv: sealing.crv, x: sealing.x, y: sealing.y },
    createdAt: now,
  })
  return { runner, tenant, pool }
}

/** The shape was checked; only the runtime knows whether the numbers are a point on the curve. */
async function checkKey(
  jwk: EnrollRequest['signing_jwk'] | EnrollRequest['sealing_jwk'],
  algorithm: string,
  field: string,
): Promise<void> {
  const { d: _, ...publicHalf } = jwk
  try {
    await importJWK(publicHalf, algorithm)
  } catch {
    throw new Fault('invalid_request', `${field}: is not a usable ${jwk.crv} key`, { extra: { field } })
  }
}

async function sha256(text: string): Promise<string> {
  return base64url.encode(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))))
}
