/**
 * How a machine becomes a runner and proves later that it is one: the bodies of `/v1/runners/enroll` and
 * `/v1/runners/token`, and the shape of the assertion. The keys are made on the machine and only their public halves
 * appear here; which of them are trusted is the router's business.
 */
import { z } from 'zod'
import { Name, RunnerId, TenantId } from './ids.ts'

export const ENROLL_PATH = '/v1/runners/enroll'
export const TOKEN_PATH = '/v1/runners/token'

/** `typ` of an assertion, so that no other signature of the same key passes for one. */
export const ASSERTION_TYP = 'runyard-assertion+jwt'
/** The router refuses an assertion that is good for longer than this. */
export const ASSERTION_MAX_S = 60
/** What a runner asks for: half of the maximum, which leaves the other half to a clock that is ahead. */
export const ASSERTION_TTL_S = 30
export const RUNNER_TOKEN_TTL_S = 900
/** How far apart the clocks of two machines may be. */
export const CLOCK_SKEW_S = 30

/** 32 bytes in base64url. */
const Coordinate = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'is not 32 bytes in base64url')
// Named only to be refused: somebody who sends it has just published the private key, and should hear that.
const Private = z
  .unknown()
  .refine((d) => d === undefined, 'is the private half of the key; it must never leave the machine')
  .optional()
  .describe('Never: the private half stays on the machine')

/** The key a runner signs with: Ed25519, public half (RFC 8037 §2). */
export const SigningJwk = z.strictObject({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: Coordinate, d: Private })
/** The key secrets are sealed to: ECDH on P-256, public half (RFC 7518 §6.2.1). Ed25519 cannot decrypt. */
export const SealingJwk = z.strictObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  x: Coordinate,
  y: Coordinate,
  d: Private,
})

export const EnrollRequest = z.strictObject({
  token: z.string().min(1).max(128).describe('A one-time enrolment token'),
  signing_jwk: SigningJwk.describe('Public Ed25519 key; the runner signs its assertions with the private half'),
  sealing_jwk: SealingJwk.describe('Public P-256 key; secrets for the runner are sealed to it'),
  name: Name.describe('What people call the machine'),
  labels: z.record(Name, z.string().max(256)).refine((l) => Object.keys(l).length <= 64, 'has more than 64 entries'),
  pool: Name.optional().describe('Refused unless the enrolment token is for this pool'),
  versions: z.strictObject({ agent: z.string().max(64), cli: z.string().max(64).nullable() }),
})
export type EnrollRequest = z.infer<typeof EnrollRequest>

export const EnrollResponse = z.object({ runner_id: RunnerId, tenant: TenantId, pool: Name })
export type EnrollResponse = z.infer<typeof EnrollResponse>

export const RunnerTokenRequest = z.strictObject({
  assertion: z
    .string()
    .min(1)
    .max(8_192)
    .describe('A JWT signed by the runner: iss = sub = its id, aud = this URL, exp ≤ 60 s ahead, jti once'),
})
export const RunnerTokenResponse = z.object({ token: z.string().min(1).max(8_192), expires_in_s: z.int().positive() })
export type RunnerTokenResponse = z.infer<typeof RunnerTokenResponse>
