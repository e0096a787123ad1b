/** Provider keys at rest: sealed by the vault for one row and version, and shown by their end and a fingerprint only. */
import { base64url } from 'jose'
import type { Db, Log, Vault } from '../ports.ts'
import { sealedByOthers, swapSeal, type ProviderRow } from '../store/providers.ts'

export type KeyPlace = Pick<ProviderRow, 'tenant' | 'id' | 'version'>
export type SealedKey = { readonly sealedKey: string; readonly sealedBy: string; readonly keyTail: string; readonly keyPrint: string }

const PAGE = 50
const TAIL = 4
/** Of a key that is shorter, its end would be too much of it. */
const MIN_KEY_WITH_TAIL = 12
/** 64 bits, in hex: enough to see that two keys differ. */
const PRINT_BYTES = 8

export const keyContext = ({ tenant, id, version }: KeyPlace) => `provider/${tenant}/${id}/${version}`

/** What a provider's row holds of its key. */
export async function sealKey(vault: Vault, place: KeyPlace, apiKey: string): Promise<SealedKey> {
  const print = base64url.decode(await vault.hash(`provider:${apiKey}`)).slice(0, PRINT_BYTES)
  return {
    sealedKey: await vault.seal(keyContext(place), apiKey),
    sealedBy: vault.kid,
    keyTail: apiKey.length < MIN_KEY_WITH_TAIL ? '' : apiKey.slice(-TAIL),
    keyPrint: Array.from(print, (byte) => byte.toString(16).padStart(2, '0')).join(''),
  }
}

/** Throws when no key of the vault opens it. */
export function openKey(vault: Vault, row: ProviderRow): Promise<string> {
  if (row.sealedKey === null) throw new Error(`provider ${row.id} has no key`)
  return vault.open(keyContext(row), row.sealedKey)
}

/**
 * Seals with the vault's newest key what an older one has sealed, row by row, so that the older one can be taken away. May
 * run in several processes at once, and again after a failure. Resolves to how many were sealed anew and how many nobody can open.
 */
export async function resealAll({ store, vault, log }: { store: { readonly db: Db }; vault: Vault; log: Log }): Promise<{ sealed: number; lost: number }> {
  const done = { sealed: 0, lost: 0 }
  for (let after: ProviderRow | undefined; ; ) {
    const page = await sealedByOthers(store.db, vault.kid, after, PAGE)
    for (const row of page) {
      try {
        if (await swapSeal(store.db, row, await vault.seal(keyContext(row), await openKey(vault, row)), vault.kid)) done.sealed++
      } catch (error) {
        done.lost++
        log.error({ err: error, tenant: row.tenant, provider: row.id }, 'the key of a provider could not be sealed anew')
      }
    }
    after = page.at(-1)
    if (page.length < PAGE) return done
  }
}
