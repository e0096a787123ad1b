/** The `Idempotency-Key` of a request and the hash of its body, so that a second attempt finds the first one's run. */
import { Fault } from '../../shared/faults.ts'
import type { Claim, Deps } from '../ports.ts'
import { findClaim } from '../store/idempotency.ts'

/** `body` is the parsed one: white space and the order of keys do not make another request. Undefined without a key. */
export async function claimOf(key: string | undefined, body: unknown): Promise<Claim | undefined> {
  if (key === undefined) return undefined
  if (!/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new Fault('invalid_request', 'Idempotency-Key: must be 1 to 255 visible ASCII characters', { extra: { field: 'idempotency-key' } })
  }
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(canonical(body)))
  return { key, hash: [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('') }
}

/** What its key led to before; undefined: nothing. Throws `idempotency` when that was asked with another body. */
export async function usedBefore({ store, platform }: Pick<Deps, 'store' | 'platform'>, tenant: string, claim: Claim): ReturnType<typeof findClaim> {
  const used = await findClaim(store.db, tenant, claim.key, platform.now())
  if (used && used.hash !== claim.hash) {
    throw new Fault('idempotency', 'this Idempotency-Key was used for another body', { extra: { field: 'idempotency-key' } })
  }
  return used
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, v: unknown) =>
    typeof v === 'object' && v !== null && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).toSorted(([a], [b]) => (a < b ? -1 : 1))) : v,
  )
}
