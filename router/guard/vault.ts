/**
 * Secrets at rest: AES-256-GCM as a JWE (RFC 7516), each naming the key that sealed it and bound to what it was sealed
 * for, so that a row that is copied to another place opens nowhere. Where the ring of keys is kept is the host's business.
 */
import { base64url, CompactEncrypt, compactDecrypt } from 'jose'
import { z } from 'zod'
import type { Vault } from '../ports.ts'

const KEY_BYTES = 32
/** In one ring: who turns it more often forgets the old ones in between. */
export const MAX_KEYS = 8
const TYP = 'runyard-secret'

const Secret = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'is not 32 bytes in base64url')
/** The newest key first: it seals. The others only open, until everything is sealed anew. */
export const KeyRing = z.strictObject({
  keys: z.array(z.strictObject({ kid: z.string().min(1).max(64), k: Secret })).min(1).max(MAX_KEYS),
  /** For keyed hashes, which cannot be made anew: it stays when the keys change. */
  pepper: Secret,
})
export type KeyRing = z.infer<typeof KeyRing>

const fresh = () => base64url.encode(crypto.getRandomValues(new Uint8Array(KEY_BYTES)))

/** `kid`: a name that was not used before. */
export function newKeyRing(kid: string): KeyRing {
  return { keys: [{ kid, k: fresh() }], pepper: fresh() }
}

/** A new key in front of those that are there. */
export function withNewKey(ring: KeyRing, kid: string): KeyRing {
  return { ...ring, keys: [{ kid, k: fresh() }, ...ring.keys] }
}

/** Throws when `ring` is not one; the message has nothing of it. */
export async function openVault(ring: unknown): Promise<Vault> {
  const parsed = KeyRing.safeParse(ring)
  const [newest] = parsed.data?.keys ?? []
  if (!parsed.success || !newest) throw new Error('the master key is not a ring of keys')
  const keys = new Map(parsed.data.keys.map(({ kid, k }) => [kid, base64url.decode(k)]))
  const pepper = await crypto.subtle.importKey('raw', base64url.decode(parsed.data.pepper) as Uint8Array<ArrayBuffer>, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
  return {
    kid: newest.kid,
    seal: (context, secret) =>
      new CompactEncrypt(new TextEncoder().encode(secret))
        .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: TYP, kid: newest.kid, ctx: context })
        .encrypt(base64url.decode(newest.k)),
    async open(context, sealed) {
      const { plaintext, protectedHeader } = await compactDecrypt(sealed, ({ kid }) => keyOf(keys, kid), {
        keyManagementAlgorithms: ['dir'],
        contentEncryptionAlgorithms: ['A256GCM'],
      })
      if (protectedHeader.typ !== TYP || protectedHeader['ctx'] !== context) throw new Error('the secret was sealed for something else')
      return new TextDecoder().decode(plaintext)
    },
    async hash(secret) {
      return base64url.encode(new Uint8Array(await crypto.subtle.sign('HMAC', pepper, new TextEncoder().encode(secret))))
    },
  }
}

/** A vault whose ring may change while it is in use, as its file does. */
export interface TurningVault extends Vault {
  /** From now on what `next` has counts. */
  turn(next: Vault): void
}

export function turning(first: Vault): TurningVault {
  let now = first
  return {
    get kid() {
      return now.kid
    },
    seal: (context, secret) => now.seal(context, secret),
    open: (context, sealed) => now.open(context, sealed),
    hash: (secret) => now.hash(secret),
    turn: (next) => void (now = next),
  }
}

function keyOf(keys: ReadonlyMap<string, Uint8Array>, kid: string | undefined): Uint8Array {
  const key = keys.get(kid ?? '')
  if (!key) throw new Error(`the master key ${kid ?? ''} is not here`)
  return key
}
