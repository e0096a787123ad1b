/** Which providers a machine can pay with, by what its runner said of it. The runner looks again, and has the last word. */
import { isPrivate } from '../admin/base-url.ts'
import type { Option } from '../core/provider-choice.ts'
import type { Payee } from '../ports.ts'

/**
 * What of `options` this machine can pay with: not with a login that it has not got, nor at an address that its owner
 * forbids. `forbidden`: only the owner's word is in the way.
 */
export function payable<O extends Option>(options: readonly O[], { provider, policy }: Pick<Payee, 'provider' | 'policy'>): { ok: true; fit: O[] } | { ok: false; forbidden: boolean; why: string } {
  const withLogin = options.filter((o) => o.baseUrl !== null || provider !== null)
  const fit = withLogin.filter((o) => o.baseUrl === null || policy?.allow_private_base_urls !== false || !needsLeave(o.baseUrl))
  if (fit.length > 0) return { ok: true, fit }
  const names = (of: readonly O[]) => of.map(({ id }) => id).join(', ')
  if (withLogin.length === 0) return { ok: false, forbidden: false, why: `provider ${names(options)} is the login of the machine, and this one has none` }
  const why = `provider ${names(withLogin)} has a private address or plain http; allow_private_base_urls is not set on this machine`
  return { ok: false, forbidden: withLogin.length === options.length, why }
}

/** An address that the owner of a machine has to allow. */
const needsLeave = (url: string) => url.startsWith('http:') || isPrivate(url)
