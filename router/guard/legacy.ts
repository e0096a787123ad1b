/**
 * Keys and passwords of older servers, which an admin has registered: looked up by a keyed hash, so that the time it
 * takes says nothing of how near a guess was, and the database has nothing that could be sent.
 *
 * Guessing is bounded for the process as a whole. Whoever was right once is not held up by those who guess.
 */
import { APP_SCOPES, parseScopes } from '../core/scopes.ts'
import { Fault } from '../../shared/faults.ts'
import type { Principal } from '../ports.ts'
import type { CredentialStanding } from '../store/standings.ts'
import { notValid, refuseByTenant, type Admission, type GuardDeps } from './admission.ts'
import type { Presented } from './credentials.ts'

export const MIN_SECRET = 8
export const MAX_SECRET = 512

/** Guesses a second, of all strangers together, and how many at once: with eight characters of chance that leads nowhere. */
const GUESSES = { perSecond: 20, burst: 200 }

/** What outlives a request: when the last guess would be due if they came evenly (GCRA). */
export interface Strangers {
  dueAt: number
}
export const strangers = (): Strangers => ({ dueAt: 0 })

/** Under which name a secret is hashed. The user of Basic has no colon, so no two pairs are the same text. */
export function secretText(presented: Presented): string {
  return presented.kind === 'token' ? `key:${presented.token}` : `basic:${presented.user}:${presented.password}`
}

type Needs = Pick<GuardDeps, 'identity' | 'vault' | 'platform'>

/** Throws `unauthenticated`, `forbidden` for a disabled tenant, and `rate` when too many were wrong. */
export async function admitLegacy(deps: Needs, presented: Presented): Promise<Admission> {
  const { length } = presented.kind === 'token' ? presented.token : presented.password
  if (length < MIN_SECRET || length > MAX_SECRET) throw notValid()
  const hash = await deps.vault.hash(secretText(presented))
  const find = async () => {
    const row = await deps.identity.registry.credential(hash, () => countGuess(deps))
    if (!row || row.revokedAt !== null) throw notValid()
    refuseByTenant(row.tenant, row, row.createdAt)
    return row
  }
  const who = principalOf(await find())
  return { who, recheck: async () => void (await find()) }
}

/** Throws `rate` when strangers have guessed too often. */
export function countGuess({ identity, platform }: Pick<Needs, 'identity' | 'platform'>): void {
  const { strangers: memory } = identity
  const now = platform.now()
  const spacingMs = 1_000 / GUESSES.perSecond
  // A clock that was set back must not keep everybody waiting for what it was ahead.
  const slot = Math.min(Math.max(memory.dueAt, now), now + GUESSES.burst * spacingMs)
  const waitMs = slot - now - (GUESSES.burst - 1) * spacingMs
  if (waitMs > 0) throw new Fault('rate', 'too many unknown keys and passwords', { retryAfterS: Math.ceil(waitMs / 1_000) })
  memory.dueAt = slot + spacingMs
}

function principalOf(row: CredentialStanding): Principal {
  return {
    kind: 'app',
    tenant: row.tenant,
    subject: row.subject,
    scopes: parseScopes(row.scopes, APP_SCOPES),
    jti: row.id,
    narrowing: row.narrowing ?? {},
    issuedAt: row.createdAt,
    expiresAt: Number.MAX_SAFE_INTEGER,
    from: 'credential',
    pool: undefined,
  }
}
