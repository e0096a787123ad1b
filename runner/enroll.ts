/**
 * The two requests of a runner that are not its socket: trading a one-time token for an identity, and an assertion for
 * an access token. Every way in which they can fail has its own message, because somebody reads it on a machine where
 * nothing works yet.
 */
import { exportJWK, generateKeyPair } from 'jose'
import { z } from 'zod'
import {
  ENROLL_PATH,
  EnrollRequest,
  EnrollResponse,
  RunnerTokenResponse,
  SealingJwk,
  SigningJwk,
  TOKEN_PATH,
} from '../shared/runner-auth.ts'
import { VERSION } from '../shared/version.ts'
import { IdentityError, SEALING_FILE, SIGNING_FILE, signAssertion, type Identity, type IdentityFile } from './identity.ts'
import { takePlace } from './identity-files.ts'

const TIMEOUT_MS = 15_000

export interface EnrollOptions {
  readonly url: string
  readonly token: string
  readonly name: string
  /** Refused by the router unless the token is for this pool. */
  readonly pool?: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly stateDir: string
  readonly cliVersion?: string | null
  /** Replace an identity that is there; it comes back when the router refuses. */
  readonly force?: boolean
}

/** Makes the keys, enrols, writes the identity to `stateDir`. Throws `IdentityError`, and then has left nothing behind. */
export async function enroll(options: EnrollOptions): Promise<IdentityFile> {
  const url = routerBase(options.url)
  const signing = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const sealing = await generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
  const { token, name, pool, labels, cliVersion = null, stateDir, force = false } = options
  const request = EnrollRequest.safeParse({
    token,
    signing_jwk: SigningJwk.parse(await exportJWK(signing.publicKey)),
    sealing_jwk: SealingJwk.parse(await exportJWK(sealing.publicKey)),
    name,
    labels,
    ...(pool === undefined ? {} : { pool }),
    versions: { agent: VERSION, cli: cliVersion },
  })
  if (!request.success) throw invalid(request.error)

  const place = await takePlace(stateDir, force)
  try {
    // On disk before the token is used up: a full disk or a wrong mode must not cost it.
    await place.writeKey(SIGNING_FILE, await exportJWK(signing.privateKey))
    await place.writeKey(SEALING_FILE, await exportJWK(sealing.privateKey))
    const answer = await post(url, ENROLL_PATH, request.data, EnrollResponse)
    const identity: IdentityFile = { runner_id: answer.runner_id, url, tenant: answer.tenant, pool: answer.pool, name }
    await place.commit(identity)
    return identity
  } catch (error) {
    await place.abandon()
    throw error
  }
}

/** A token to connect with. `now` in milliseconds: it goes into the assertion, so a clock that is far off is refused. */
export async function fetchAccessToken(
  identity: Pick<Identity, 'url' | 'runnerId' | 'signingKey'>,
  now: number,
): Promise<{ token: string; expiresInS: number }> {
  const assertion = await signAssertion(identity, identity.url + TOKEN_PATH, now)
  const { token, expires_in_s: expiresInS } = await post(identity.url, TOKEN_PATH, { assertion }, RunnerTokenResponse)
  return { token, expiresInS }
}

/** The base of a router as a person typed it, without a slash at its end; throws `invalid`. */
export function routerBase(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (!parsed || (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')) {
    throw new IdentityError('invalid', 'the URL of a router looks like https://runs.example.com')
  }
  // A token in a URL ends up in logs; it has its own option.
  if (parsed.username || parsed.password || parsed.search || parsed.hash) {
    throw new IdentityError('invalid', 'the URL of a router has no user name, query or fragment')
  }
  return parsed.origin + parsed.pathname.replace(/\/+$/, '')
}

const Problem = z.object({ code: z.string(), detail: z.string().optional(), title: z.string().optional() })

async function post<T>(base: string, path: string, body: object, answer: z.ZodType<T>): Promise<T> {
  let response: Response
  let text: string
  try {
    response = await fetch(base + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify(body),
      // Whoever answers with a redirect would be handed what is in the body.
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    text = await response.text()
  } catch (error) {
    throw new IdentityError('unreachable', `cannot reach the router at ${base}: ${reason(error)}`, { cause: error })
  }
  const json = parse(text)
  if (response.ok) {
    const good = answer.safeParse(json)
    if (good.success) return good.data
  }
  const location = response.headers.get('location')
  if (response.status >= 300 && response.status < 400 && location) {
    throw new IdentityError('not_a_router', `${base} redirects to ${location.slice(0, 256)}; use the URL of the router itself`)
  }
  const problem = Problem.safeParse(json)
  if (response.ok || !problem.success) {
    throw new IdentityError('not_a_router', `${base} answers (${response.status}), but not as a Runyard router`)
  }
  const { code, detail, title } = problem.data
  const retryable = response.status >= 500 || response.status === 429
  throw new IdentityError(
    retryable ? 'unavailable' : 'refused',
    `the router at ${base} says: ${detail ?? title ?? code} (${code})`,
  )
}

function invalid(error: z.ZodError): IdentityError {
  const issue = error.issues[0]
  return new IdentityError('invalid', issue ? `${issue.path.join('.')}: ${issue.message}` : 'a value is not acceptable')
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** undici says "fetch failed" and keeps the reason in `cause`. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return `no answer within ${TIMEOUT_MS / 1000} s`
  const { cause } = error
  if (cause instanceof AggregateError && cause.errors[0] instanceof Error) return cause.errors[0].message
  return cause instanceof Error && cause.message ? cause.message : error.message
}
