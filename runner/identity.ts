/**
 * Who this machine is: three files in its state directory. The private keys were made here, are readable by nobody
 * else, and never leave it; `identity.json` comes last, so a directory that has it whole is a finished enrolment.
 *
 * Talking to the router is enroll.ts.
 */
import { randomUUID } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { importJWK, SignJWT, type CryptoKey, type JWK } from 'jose'
import { z } from 'zod'
import { Name, RunnerId, TenantId } from '../shared/ids.ts'
import { ASSERTION_TTL_S, ASSERTION_TYP, SealingJwk, SigningJwk } from '../shared/runner-auth.ts'

export const IDENTITY_FILE = 'identity.json'
export const SIGNING_FILE = 'signing.jwk'
export const SEALING_FILE = 'sealing.jwk'

export const IdentityFile = z.object({
  runner_id: RunnerId,
  /** Base of the router, without a slash at its end. */
  url: z.url({ protocol: /^https?$/ }),
  tenant: TenantId,
  pool: Name,
  name: Name,
})
export type IdentityFile = z.infer<typeof IdentityFile>

export interface Identity {
  readonly runnerId: string
  readonly url: string
  readonly tenant: string
  readonly pool: string
  readonly name: string
  readonly signingKey: CryptoKey
}

/**
 * Why a machine cannot enrol or prove who it is. `unreachable` and `unavailable` may pass, the others need somebody.
 * - `exists`: there is an identity already · `broken`: there is one that cannot be used · `invalid`: a value is not acceptable
 * - `unreachable`: no answer · `not_a_router`: an answer, but not from Runyard · `refused`: it said no · `unavailable`: not now
 */
export type IdentityProblem = 'exists' | 'broken' | 'invalid' | 'unreachable' | 'not_a_router' | 'refused' | 'unavailable'

export class IdentityError extends Error {
  readonly problem: IdentityProblem

  constructor(problem: IdentityProblem, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'IdentityError'
    this.problem = problem
  }
}

/** The identity in `dir`, or undefined when the machine is not enrolled. Throws `broken` for one that cannot be trusted. */
export async function loadIdentity(dir: string): Promise<Identity | undefined> {
  const text = await readFile(join(dir, IDENTITY_FILE), 'utf8').catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return undefined
    throw broken(dir, `${IDENTITY_FILE} cannot be read`, error)
  })
  if (text === undefined) return undefined
  if (text === '') throw broken(dir, 'an enrolment began and did not finish')
  const file = IdentityFile.safeParse(parseJson(text))
  if (!file.success) throw broken(dir, `${IDENTITY_FILE} is damaged`)
  const { runner_id: runnerId, url, tenant, pool, name } = file.data
  return { runnerId, url, tenant, pool, name, signingKey: await loadSigningKey(dir) }
}

/** Proof of who we are, for the one who `audience` names. Good for half a minute and once; `now` in milliseconds. */
export function signAssertion(
  { runnerId, signingKey }: Pick<Identity, 'runnerId' | 'signingKey'>,
  audience: string,
  now: number,
): Promise<string> {
  const iat = Math.floor(now / 1000)
  return new SignJWT({ iss: runnerId, sub: runnerId, aud: audience, iat, exp: iat + ASSERTION_TTL_S, jti: randomUUID() })
    .setProtectedHeader({ alg: 'EdDSA', typ: ASSERTION_TYP })
    .sign(signingKey)
}

const PrivateSigningJwk = SigningJwk.extend({ d: SigningJwk.shape.x })

const PrivateSealingJwk = SealingJwk.extend({ d: SealingJwk.shape.x })

function loadSigningKey(dir: string): Promise<CryptoKey> {
  return loadKey(dir, SIGNING_FILE, PrivateSigningJwk, 'EdDSA')
}

/** Opens what the router sealed to this machine. Throws `broken`. */
export function loadSealingKey(dir: string): Promise<CryptoKey> {
  return loadKey(dir, SEALING_FILE, PrivateSealingJwk, 'ECDH-ES')
}

async function loadKey(dir: string, file: string, schema: z.ZodType<JWK>, algorithm: string): Promise<CryptoKey> {
  const path = join(dir, file)
  await refuseIfShared(dir, path)
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw broken(dir, `${file} cannot be read`, error)
  })
  const jwk = schema.safeParse(parseJson(text))
  if (!jwk.success) throw broken(dir, `${file} is damaged`)
  const key = await importJWK(jwk.data, algorithm).catch((error: unknown) => {
    throw broken(dir, `${file} is damaged`, error)
  })
  if (key instanceof Uint8Array) throw broken(dir, `${file} is damaged`)
  return key
}

/** A key that others could read may be theirs by now; ssh refuses those as well. */
async function refuseIfShared(dir: string, path: string): Promise<void> {
  if (process.platform === 'win32') return
  const { mode } = await stat(path).catch((error: unknown) => {
    throw broken(dir, `${path} cannot be read`, error)
  })
  if ((mode & 0o077) !== 0)
    throw new IdentityError(
      'broken',
      `${path} can be read by other users (mode ${(mode & 0o777).toString(8)}); enrol anew, or \`chmod 600\` it if nobody has`,
    )
}

function broken(dir: string, what: string, cause?: unknown): IdentityError {
  return new IdentityError('broken', `${what}; enrol this machine anew with --force (its identity is in ${dir})`, { cause })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
