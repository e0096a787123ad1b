/**
 * Everything that is remembered of identity between requests, in one piece for a host to keep: rows, public keys,
 * imported keys and claims, nothing that belongs to a request.
 */
import type { JSONWebKeySet, JWTPayload } from 'jose'
import type { Db, Log, Platform, Principal, Vault } from '../ports.ts'
import { issuerKeysOf, type IssuerKeys, type IssuerKeysMemory } from './issuer-keys.ts'
import type { Keys } from './keys.ts'
import { strangers, type Strangers } from './legacy.ts'
import { registryMemory, registryOf, type Registry, type RegistryMemory } from './registry.ts'
import { ringMemory, ringOf, type RingMemory, type SigningRing } from './ring.ts'
import { verifiedOf, webDigest, type Digest, type Verified, type VerifiedMemory } from './verified.ts'

export interface Identity {
  readonly registry: Registry
  readonly issuerKeys: IssuerKeys
  readonly strangers: Strangers
  /** By the key of the ring, and by the key set of the issuer, that the signature was held against. */
  readonly verified: { readonly own: Verified<Principal, Keys>; readonly foreign: Verified<JWTPayload, JSONWebKeySet> }
}

export interface IdentityMemory {
  readonly ring: RingMemory
  readonly registry: RegistryMemory
  readonly issuerKeys: IssuerKeysMemory
  readonly strangers: Strangers
  readonly own: VerifiedMemory<Principal, Keys>
  readonly foreign: VerifiedMemory<JWTPayload, JSONWebKeySet>
}
export const identityMemory = (): IdentityMemory => ({
  ring: ringMemory(),
  registry: registryMemory(),
  issuerKeys: new Map(),
  strangers: strangers(),
  own: new Map(),
  foreign: new Map(),
})

export interface IdentityParts {
  readonly db: Db
  readonly vault: Vault
  /** The host's own signing key. */
  readonly root: Keys
  readonly platform: Pick<Platform, 'background'>
  readonly log: Log
  readonly memory: IdentityMemory
  /** Milliseconds of any clock that only goes forward, the same for all that share `memory`. */
  readonly now: () => number
  /** Where the host has one that needs no thread; WebCrypto unless told otherwise. */
  readonly digest?: Digest | undefined
}

export function identityOf({ db, vault, root, platform, log, memory, now, digest = webDigest }: IdentityParts): { keys: SigningRing; identity: Identity } {
  return {
    keys: ringOf({ db, vault, root, memory: memory.ring, log, now }),
    identity: {
      registry: registryOf(db, memory.registry, now),
      issuerKeys: issuerKeysOf({ memory: memory.issuerKeys, now, background: (work) => platform.background(work), log }),
      strangers: memory.strangers,
      verified: { own: verifiedOf(memory.own, digest, now), foreign: verifiedOf(memory.foreign, digest, now) },
    },
  }
}
