/**
 * The keys that sign our tokens: the newest signs, at most two verify, so that a key can be changed without ending what
 * it signed. The host's own key is the first of them; the others are in the database, sealed by the vault.
 *
 * Whether a key that is found here was retired a moment ago is not asked: the record of the token has it beside it
 * (guard/registry). What is kept between requests are rows and imported keys, which belong to no request.
 */
import type { JWTPayload } from 'jose'
import type { Db, Log, Vault } from '../ports.ts'
import { liveSigningKeys, MAX_LIVE_KEYS, type SigningKeyRow } from '../store/signing-keys.ts'
import { importKeys, type Keys } from './keys.ts'

const FRESH_MS = 2_000
/** A kid that is not known may be one that another replica has just made; a stranger may ask this often. */
const LOOK_AGAIN_MS = 250

export interface SigningRing {
  /** `iss` of all of them. */
  readonly issuer: string
  /** Of the host's own. */
  readonly rootKid: string
  sign(typ: string, claims: JWTPayload): Promise<string>
  find(kid: string): Promise<Keys | undefined>
  /** The newest first. */
  live(): Promise<readonly Keys[]>
  /** A key was made or retired here. */
  changed(): void
}

/** What outlives a request. */
export interface RingMemory {
  at: number | undefined
  live: readonly Keys[]
  /** Raised with each change here, so that what was read before it is not kept. */
  changes: number
  readonly opened: Map<string, Keys>
}
export const ringMemory = (): RingMemory => ({ at: undefined, live: [], changes: 0, opened: new Map() })

export interface RingParts {
  readonly db: Db
  readonly vault: Vault
  readonly root: Keys
  readonly memory: RingMemory
  readonly log: Log
  /** Milliseconds of any clock that only goes forward, the same for all that share `memory`. */
  readonly now: () => number
}

/** The private half of a key of the ring is sealed for this. */
export const signingKeyContext = (kid: string): string => `signing-key/${kid}`

export function ringOf({ db, vault, root, memory, log, now }: RingParts): SigningRing {
  async function read(): Promise<readonly Keys[]> {
    const { changes } = memory
    const at = now()
    const rows = await liveSigningKeys(db)
    const live: Keys[] = []
    for (const row of rows) {
      const key = row.sealed === null || row.retiredAt !== null ? undefined : await opened(row.kid, row.sealed)
      if (key) live.push(key)
    }
    if (!rows.some((row) => row.kid === root.kid && row.retiredAt !== null)) live.push(root)
    const ring = live.slice(0, MAX_LIVE_KEYS)
    if (changes === memory.changes) {
      memory.at = at
      memory.live = ring
    }
    return ring
  }

  async function opened(kid: string, sealed: NonNullable<SigningKeyRow['sealed']>): Promise<Keys | undefined> {
    const known = memory.opened.get(kid)
    if (known) return known
    try {
      const key = await importKeys(JSON.parse(await vault.open(signingKeyContext(kid), sealed)), root.issuer)
      if (key.kid !== kid) throw new Error('it is another key than its row says')
      memory.opened.set(kid, key)
      return key
    } catch (error) {
      // The others go on; what this one signed is refused, as nobody can check it any more.
      log.error({ err: error, kid }, 'a signing key cannot be opened')
      return undefined
    }
  }

  const within = (ms: number) => (memory.at !== undefined && now() - memory.at < ms ? memory.live : undefined)

  return {
    issuer: root.issuer,
    rootKid: root.kid,
    async sign(typ, claims) {
      const [newest] = within(FRESH_MS) ?? (await read())
      if (!newest) throw new Error('there is no key left that signs')
      return newest.sign(typ, claims)
    },
    async find(kid) {
      const has = (keys: readonly Keys[]) => keys.find((key) => key.kid === kid)
      return has(memory.live) ?? has(within(LOOK_AGAIN_MS) ?? (await read()))
    },
    live: async () => within(FRESH_MS) ?? read(),
    changed() {
      memory.changes++
      memory.at = undefined
      memory.live = []
    },
  }
}
