/**
 * What the address of a webhook may be when it is written down: public, as far as it can be told by itself. What a name
 * resolves to is looked at by the host when it connects, at every attempt, as that may change at any time.
 */
import { Fault } from '../../shared/faults.ts'
import { namesPrivateHost } from '../guard/addresses.ts'
import type { Db } from '../ports.ts'
import { readWebhookSettings } from './settings.ts'

/** Why nobody should be told there, without quoting it: it may hold a password. */
export function addressProblem(text: string, mayBePrivate: boolean): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) return 'must look like https://example.com/hook'
  if (url.username !== '' || url.password !== '') return 'has a user or password in it; the signature proves who calls'
  if (!mayBePrivate && namesPrivateHost(url)) return 'is not an address of the public internet'
  return undefined
}

/** As it will be called. Throws `invalid_request` that names `field`. */
export async function checkedAddress(db: Db, text: string, field: string): Promise<string> {
  const problem = addressProblem(text, false)
  // What an operator has allowed is asked only when it matters.
  if (problem === undefined || addressProblem(text, (await readWebhookSettings(db)).allow_private) === undefined) return plain(text)
  throw new Fault('invalid_request', `${field}: ${problem}`, { extra: { field } })
}

/** In the one form that it is stored, compared and called in; a fragment is never sent. */
function plain(text: string): string {
  const url = new URL(text)
  url.hash = ''
  return url.href
}
