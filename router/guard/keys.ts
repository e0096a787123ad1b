/**
 * The router's own signing key: it signs every token we mint, and its public half is what anybody needs to check one.
 *
 * Where the private half is kept is the host's business; here it is imported once and never leaves the object again.
 */
import { calculateJwkThumbprint, exportJWK, importJWK, SignJWT, type CryptoKey, type JWTPayload } from 'jose'

/** The one algorithm we sign and verify with (RFC 8037). Pinned everywhere, so a token cannot choose. */
export const ALGORITHM = 'EdDSA'

export interface PublicJwk {
  readonly kty: 'OKP'
  readonly crv: 'Ed25519'
  readonly x: string
  readonly kid: string
  readonly use: 'sig'
  readonly alg: typeof ALGORITHM
}

export interface SigningJwk {
  kty: 'OKP'
  crv: 'Ed25519'
  x: string
  d: string
}

export interface Keys {
  /** `iss` of what we sign; a token of another router is foreign even when its claims look the same. */
  readonly issuer: string
  /** RFC 7638 thumbprint of the public key. */
  readonly kid: string
  readonly publicKey: CryptoKey
  readonly jwks: { readonly keys: readonly PublicJwk[] }
  sign(typ: string, claims: JWTPayload): Promise<string>
}

/** A new private key for `importKeys`. It is a secret: the host writes it with mode 0600. */
export async function generateSigningJwk(): Promise<SigningJwk> {
  const pair = await crypto.subtle.generateKey({ name: 'Ed25519' }, true, ['sign', 'verify'])
  if (!('privateKey' in pair)) throw new Error('this runtime makes no Ed25519 key pairs')
  const { x, d } = await exportJWK(pair.privateKey)
  if (typeof x !== 'string' || typeof d !== 'string') throw new Error('this runtime exports no Ed25519 keys')
  return { kty: 'OKP', crv: 'Ed25519', x, d }
}

/** Throws when `jwk` is not a whole private Ed25519 key, or its halves do not belong together. */
export async function importKeys(jwk: unknown, issuer: string): Promise<Keys> {
  const { x, d } = privateEd25519(jwk)
  const publicHalf = { kty: 'OKP', crv: 'Ed25519', x } as const
  // `ext: false`: what was imported cannot be exported again, so no bug of ours can print it.
  const privateKey = await cryptoKey({ ...publicHalf, d, ext: false })
  const publicKey = await cryptoKey(publicHalf)
  const probe = new TextEncoder().encode(issuer)
  const signature = await crypto.subtle.sign('Ed25519', privateKey, probe)
  // Node 20 notices halves of different pairs by itself; where a runtime does not, every token would be refused, one by one.
  if (!(await crypto.subtle.verify('Ed25519', publicKey, signature, probe)))
    throw new Error('the two halves of the signing key do not match')

  const kid = await calculateJwkThumbprint(publicHalf)
  return {
    issuer,
    kid,
    publicKey,
    jwks: { keys: [{ ...publicHalf, kid, use: 'sig', alg: ALGORITHM }] },
    sign: (typ, claims) =>
      new SignJWT({ ...claims, iss: issuer }).setProtectedHeader({ alg: ALGORITHM, typ, kid }).sign(privateKey),
  }
}

function privateEd25519(jwk: unknown): { x: string; d: string } {
  if (typeof jwk === 'object' && jwk !== null && 'kty' in jwk && 'crv' in jwk && 'x' in jwk && 'd' in jwk) {
    const { kty, crv, x, d } = jwk
    if (kty === 'OKP' && crv === 'Ed25519' && typeof x === 'string' && typeof d === 'string') return { x, d }
  }
  throw new Error('the signing key is not a private Ed25519 JWK')
}

async function cryptoKey(jwk: { kty: 'OKP'; crv: 'Ed25519'; x: string; d?: string; ext?: boolean }): Promise<CryptoKey> {
  const key = await importJWK(jwk, ALGORITHM)
  if (key instanceof Uint8Array) throw new Error('the signing key is not a key pair')
  return key
}
