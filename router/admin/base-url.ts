/**
 * What a provider's base URL may be when it is written down. Names are resolved by the gateway of the runner that dials
 * them, and its owner decides there; what is refused here is what that gateway would refuse whatever a name resolves to.
 */
import { z } from 'zod'
import { Fault } from '../../shared/faults.ts'
import { namesPrivateHost } from '../guard/addresses.ts'
import type { OnlineRunner } from '../ports.ts'

/** Without a slash at its end. What is wrong with it is said without quoting it: it may hold a password. */
export const BaseUrl = z
  .string()
  .max(2_048)
  .transform((text, ctx) => {
    const why = wrongWith(text)
    if (why === undefined) return text.replace(/\/+$/, '')
    ctx.addIssue({ code: 'custom', message: why })
    return z.NEVER
  })

function wrongWith(text: string): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol)) return 'must look like https://api.example.com'
  if (url.username !== '' || url.password !== '') return 'has a user or password in it; the key goes into api_key'
  if (text.includes('?') || text.includes('#')) return 'has a query or fragment; the path of a request is put behind it'
  return undefined
}

/** Whether it names this machine or a private network by itself. `url` is a `BaseUrl`. */
export function isPrivate(url: string): boolean {
  return namesPrivateHost(new URL(url))
}

/**
 * Throws `policy` when every runner that is connected now would refuse to dial `url`. What is doubtful is returned as
 * sentences: a runner that is not connected may allow it.
 */
export function checkReach(url: string, online: readonly Pick<OnlineRunner, 'policy'>[]): string[] {
  const plain = url.startsWith('http:')
  if (!isPrivate(url) && !plain) return []
  const what = isPrivate(url) ? 'is a private address' : 'is plain http, over which the key can be read'
  const allowing = online.filter(({ policy }) => policy?.allow_private_base_urls === true).length
  if (allowing === online.length)
    return allowing > 0
      ? []
      : [`base_url: ${what}; it is of use to runners only whose owner allows that, and none is connected`]
  if (allowing === 0) {
    throw new Fault(
      'policy',
      `base_url: ${what}, and no connected runner allows that (\`allow_private_base_urls\` of its owner)`,
      {
        extra: { field: 'base_url' },
      },
    )
  }
  return [`base_url: ${what}, which ${online.length - allowing} of ${online.length} connected runners refuse`]
}
