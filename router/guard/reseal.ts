/** Signing keys sealed anew by the vault's newest key, so that an older one can be taken away. May run in several processes at once. */
import { decodeProtectedHeader } from 'jose'
import type { Db, Log, Vault } from '../ports.ts'
import { liveSigningKeys, swapSealedKey } from '../store/signing-keys.ts'
import { signingKeyContext } from './ring.ts'

/** Retired ones stay as they are: nobody opens them again. */
export async function resealSigningKeys({ store, vault, log }: { store: { readonly db: Db }; vault: Vault; log: Log }): Promise<void> {
  for (const { kid, sealed } of await liveSigningKeys(store.db)) {
    if (sealed === null || decodeProtectedHeader(sealed).kid === vault.kid) continue
    try {
      const context = signingKeyContext(kid)
      await swapSealedKey(store.db, kid, sealed, await vault.seal(context, await vault.open(context, sealed)))
    } catch (error) {
      log.error({ err: error, kid }, 'a signing key could not be sealed anew')
    }
  }
}

/** Live signing keys that another key of the vault than `kid` has sealed. */
export async function countSigningKeysSealedByOthers(db: Db, kid: string): Promise<number> {
  return (await liveSigningKeys(db)).filter(({ sealed }) => sealed !== null && decodeProtectedHeader(sealed).kid !== kid).length
}
