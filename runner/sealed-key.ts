/**
 * The key of a provider, as the router sealed it to this machine and to one run. What was sealed for another run, another
 * provider or another purpose does not open here, although the same machine could read it.
 */
import { compactDecrypt, type CryptoKey } from 'jose'
import { Fault } from '../shared/faults.ts'
import { SEALED_KEY_TYP } from '../shared/grants.ts'

type Meant = { readonly run: string; readonly provider: string }

const ALGORITHMS = { keyManagementAlgorithms: ['ECDH-ES'], contentEncryptionAlgorithms: ['A256GCM'] }

/** Throws `Fault('unknown_provider')`, with nothing in it of what was sealed. */
export async function openKey(sealed: string, sealingKey: CryptoKey, meant: Meant): Promise<string> {
  const opened = await compactDecrypt(sealed, sealingKey, ALGORITHMS).catch(() => undefined)
  const { protectedHeader: header, plaintext } = opened ?? {}
  if (header?.typ !== SEALED_KEY_TYP || header['run'] !== meant.run || header['provider'] !== meant.provider) {
    throw new Fault('unknown_provider', `the key of provider ${meant.provider} is not sealed to this machine and run`)
  }
  const key = new TextDecoder().decode(plaintext)
  // It becomes a header.
  if (/^[\x21-\x7e]+$/.test(key)) return key
  throw new Fault('unknown_provider', `the key of provider ${meant.provider} has characters that no key has`)
}
