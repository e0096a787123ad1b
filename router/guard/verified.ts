/**
 * Tokens whose signature and claims were found good a moment ago: whoever asks often has them checked once a minute, and
 * not with every request.
 *
 * It vouches for that and nothing else. Whether the token has expired or was revoked, and whether its tenant, its issuer
 * and the key are still good, is asked every time by those who use it. What is kept are hashes and claims, never a token.
 */
const TRUSTED_MS = 60_000
/** Past this many the one that was used the longest ago is checked anew. Only who has a good token takes a place. */
export const MAX_VERIFIED = 10_000

export interface Known<T, K extends object> {
  readonly key: K
  readonly at: number
  readonly claims: T
}

/** What outlives a request: the one that was used last is last. */
export type VerifiedMemory<T, K extends object> = Map<string, Known<T, K>>

export interface Verified<T, K extends object> {
  /** What was found of this token within the last minute, and the key that it was held against: whether that is still good is for the caller to ask. */
  known(token: string): Promise<Known<T, K> | undefined>
  /** What `verify` says of this token held against `key`, or what it said within the last minute. A refusal is not kept. */
  claims(token: string, key: K, verify: () => Promise<T>): Promise<T>
}

/** SHA-256 of a text; at once where the host can. */
export type Digest = (text: string) => string | Promise<string>

/** `now`: milliseconds of any clock that only goes forward, the same for all that share `memory`. */
export function verifiedOf<T, K extends object>(memory: VerifiedMemory<T, K>, digest: Digest, now: () => number): Verified<T, K> {
  function take(hash: string): Known<T, K> | undefined {
    const known = memory.get(hash)
    if (!known) return undefined
    memory.delete(hash)
    if (now() - known.at >= TRUSTED_MS) return undefined
    memory.set(hash, known)
    return known
  }
  return {
    known: async (token) => take(await digest(token)),
    async claims(token, key, verify) {
      const hash = await digest(token)
      const known = take(hash)
      if (known?.key === key) return known.claims
      const at = now()
      const claims = await verify()
      memory.delete(hash)
      memory.set(hash, { key, at, claims })
      for (const oldest of memory.keys()) {
        if (memory.size <= MAX_VERIFIED) break
        memory.delete(oldest)
      }
      return claims
    },
  }
}

export const webDigest: Digest = async (text) => {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text))
  return String.fromCharCode(...new Uint8Array(hash))
}
