/**
 * Keys and passwords of older servers, which an admin has registered: looked up by a keyed hash, so that the time it
 * takes says nothing of how near a guess was, and the database has nothing that could be sent.
 *
 * Guessing is bounded for each address, where the host knows addresses, and for all strangers together; so one who guesses
 * does not hold up the others. Whoever was right once is not held up at all.
 */
import { APP_SCOPES, parseScopes } from '../core/scopes.ts'
import { Fault } from '../../shared/faults.ts'
import { takeLocal, type LocalLimits } from '../limits/local-limiter.ts'
import type { Draw, Principal } from '../ports.ts'
import type { CredentialStanding } from '../store/standings.ts'
import { notValid, refuseByTenant, type Admission, type GuardDeps } from './admission.ts'
import type { Presented } from './credentials.ts'

export const MIN_SECRET = 8
export const MAX_SECRET = 512

/** Of one address, or of one tenant that registers: with eight characters of chance that leads nowhere. */
const ONE = { rate: 5, burst: 50 }
/** Of all whose addresses are not known, which behind a proxy are all. */
const NOBODY = { rate: 20, burst: 200 }
const ALL = { rate: 200, burst: 2_000 }

/** What outlives a request. */
export interface Strangers {
  readonly guesses: LocalLimits
}
export const strangers = (): Strangers => ({ guesses: new Map() })

/** Under which name a secret is hashed. The user of Basic has no colon, so no two pairs are the same text. */
export function secretText(presented: Presented): string {
  return presented.kind === 'token' ? `key:${presented.token}` : `basic:${presented.user}:${presented.password}`
}

type Needs = Pick<GuardDeps, 'identity' | 'vault' | 'platform'>

/** Throws `unauthenticated`, `forbidden` for a disabled tenant, and `rate` when too many were wrong. */
export async function admitLegacy(deps: Needs, presented: Presented, address?: string): Promise<Admission> {
  const { length } = presented.kind === 'token' ? presented.token : presented.password
  if (length < MIN_SECRET || length > MAX_SECRET) throw notValid()
  const hash = await deps.vault.hash(secretText(presented))
  const find = async () => {
    const row = await deps.identity.registry.credential(hash, () => countGuess(deps, address))
    if (!row || row.revokedAt !== null) throw notValid()
    refuseByTenant(row.tenant, row, row.createdAt)
    return row
  }
  const who = principalOf(await find())
  return { who, recheck: async () => void (await find()) }
}

/** `from`: the address or the tenant that it comes from. Throws `rate` when too much was guessed from there, or by all. */
export function countGuess({ identity, platform }: Pick<Needs, 'identity' | 'platform'>, from: string | undefined): void {
  const one: Draw = from === undefined ? { key: 'nobody', rate: NOBODY } : { key: `one/${from}`, rate: ONE }
  const decision = takeLocal(identity.strangers.guesses, [one, { key: 'all', rate: ALL }], platform.now())
  if (!decision.ok) throw new Fault('rate', 'too many unknown keys and passwords', { retryAfterS: Math.max(1, Math.ceil(decision.retryAfterMs / 1_000)) })
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
