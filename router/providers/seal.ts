/** Keys of providers on their way to a runner: for its P-256 key alone, and for one run. */
import { CompactEncrypt, importJWK, type JWK } from 'jose'
import { SEALED_KEY_TYP } from '../../shared/grants.ts'
import type { Db } from '../ports.ts'
import { findRunner } from '../store/runners.ts'

/** Public keys of runners never change, so they are read once; plain data, which any request may use. */
export type SealingKeys = Map<string, JWK>
const MAX_RUNNERS = 10_000

/** Undefined: there is no such runner. */
export async function sealingKeyOf(db: Db, known: SealingKeys, runner: string): Promise<JWK | undefined> {
  const jwk = known.get(runner) ?? (await findRunner(db, runner))?.sealingJwk
  if (jwk && known.size >= MAX_RUNNERS) known.clear()
  if (jwk) known.set(runner, jwk)
  return jwk
}

/** RFC 7516, ECDH-ES and A256GCM: opens with the runner's private key, and says for which run and provider it is. */
export async function sealTo(jwk: JWK, { run, provider }: { run: string; provider: string }, apiKey: string): Promise<string> {
  return new CompactEncrypt(new TextEncoder().encode(apiKey))
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', typ: SEALED_KEY_TYP, run, provider })
    .encrypt(await importJWK(jwk, 'ECDH-ES'))
}
