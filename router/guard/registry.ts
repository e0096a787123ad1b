/**
 * What the record says of those who call, read at most every two seconds: every request asks, and what an admin revokes
 * must be felt by all replicas within five. Whoever revokes something says so, and is felt here at once.
 *
 * It holds rows and nothing that belongs to a request, so that a host may share its memory between requests. Judging
 * them is the caller's part.
 */
import type { Db } from '../ports.ts'
import {
  credentialStanding,
  runnerStanding,
  tokenStanding,
  trustedIssuers,
  type CredentialStanding,
  type IssuerStanding,
  type RunnerStanding,
  type TokenStanding,
} from '../store/standings.ts'

const FRESH_MS = 2_000
/** Past this many they are forgotten together and read anew. */
const MAX_ENTRIES = 10_000
/** Strangers must not be able to push out those who belong here. */
const MAX_STRANGERS = 1_000

export interface Registry {
  token(of: { jti: string; tenant: string; kid: string }): Promise<TokenStanding | undefined>
  runner(of: { runner: string; tenant: string; kid: string }): Promise<RunnerStanding | undefined>
  /**
   * By its keyed hash; undefined: nobody has it. `mayAsk` is asked before the database is, for a hash that this process has
   * never known, and may throw.
   */
  credential(hash: string, mayAsk?: () => void): Promise<CredentialStanding | undefined>
  /** Those that are enabled. */
  issuers(): Promise<readonly IssuerStanding[]>
  /** Something of it was changed here. */
  changed(): void
}

type Entry<T> = { readonly at: number; readonly value: T }

export interface RegistryMemory {
  readonly tokens: Map<string, Entry<TokenStanding | undefined>>
  readonly runners: Map<string, Entry<RunnerStanding | undefined>>
  readonly credentials: Map<string, Entry<CredentialStanding | undefined>>
  readonly strangers: Map<string, Entry<undefined>>
  readonly issuers: Map<'', Entry<readonly IssuerStanding[]>>
  /** Hashes that were good once. */
  readonly known: Set<string>
  /** Raised with each change here, so that what was read before it is not kept. */
  changes: number
}
export const registryMemory = (): RegistryMemory => ({
  tokens: new Map(),
  runners: new Map(),
  credentials: new Map(),
  strangers: new Map(),
  issuers: new Map(),
  known: new Set(),
  changes: 0,
})

/** `now`: milliseconds of any clock that only goes forward, the same for all that share `memory`. */
export function registryOf(db: Db, memory: RegistryMemory, now: () => number): Registry {
  const valid = <T>(entry: Entry<T> | undefined) => (entry && now() - entry.at < FRESH_MS ? entry : undefined)

  function keep<K, T>(of: Map<K, Entry<T>>, key: K, value: T, read: { at: number; changes: number }, max = MAX_ENTRIES): T {
    if (read.changes !== memory.changes) return value
    if (of.size >= max) of.clear()
    of.set(key, { at: read.at, value })
    return value
  }
  async function fresh<K, T>(of: Map<K, Entry<T>>, key: K, read: () => Promise<T>): Promise<T> {
    const known = valid(of.get(key))
    if (known) return known.value
    const moment = { at: now(), changes: memory.changes }
    return keep(of, key, await read(), moment)
  }

  return {
    // The tenant and the key are part of what is signed, so a token has one of each.
    token: (of) => fresh(memory.tokens, `${of.jti}\0${of.tenant}\0${of.kid}`, () => tokenStanding(db, of)),
    runner: (of) => fresh(memory.runners, `${of.runner}\0${of.tenant}\0${of.kid}`, () => runnerStanding(db, of)),
    async credential(hash, mayAsk) {
      const entry = valid(memory.credentials.get(hash)) ?? valid(memory.strangers.get(hash))
      if (entry) return entry.value
      if (!memory.known.has(hash)) mayAsk?.()
      const moment = { at: now(), changes: memory.changes }
      const row = await credentialStanding(db, hash)
      if (!row) return keep(memory.strangers, hash, undefined, moment, MAX_STRANGERS)
      if (memory.known.size >= MAX_ENTRIES) memory.known.clear()
      memory.known.add(hash)
      return keep(memory.credentials, hash, row, moment)
    },
    issuers: () => fresh(memory.issuers, '', () => trustedIssuers(db)),
    changed() {
      memory.changes++
      for (const of of [memory.tokens, memory.runners, memory.credentials, memory.strangers, memory.issuers]) of.clear()
    },
  }
}
