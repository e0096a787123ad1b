/**
 * The secrets that webhooks are signed with. Ours to make, sealed at rest, shown once. A secret that was replaced signs along
 * with its successor for a day, so that a receiver can change over without losing anything.
 */
import { base64url } from 'jose'
import { z } from 'zod'
import type { Db, Log, Vault } from '../ports.ts'
import { sealedByOthers, swapSeal, type WebhookRow } from '../store/webhooks.ts'

const BYTES = 32
const OLD_MS = 86_400_000
const PAGE = 50

const Sealed = z.object({ secret: z.string(), former: z.object({ secret: z.string(), until: z.number() }).optional() })
type Sealed = z.infer<typeof Sealed>

export type SealedSecret = Pick<WebhookRow, 'sealedSecret' | 'sealedBy'>
type Place = Pick<WebhookRow, 'tenant' | 'id'>

const contextOf = ({ tenant, id }: Place) => `webhook/${tenant}/${id}`

/** As Standard Webhooks writes them: base64 with its padding, behind a prefix. */
export function newSecret(): string {
  const url = base64url.encode(crypto.getRandomValues(new Uint8Array(BYTES)))
  return `whsec_${url.replaceAll('-', '+').replaceAll('_', '/')}=`
}

/** `former`: the row whose secret this one replaces. */
export async function sealSecret(vault: Vault, place: Place, secret: string, former?: WebhookRow, now = 0): Promise<SealedSecret> {
  const before = former && (await open(vault, former))
  const content: Sealed = { secret, ...(before ? { former: { secret: before.secret, until: now + OLD_MS } } : {}) }
  return { sealedSecret: await vault.seal(contextOf(place), JSON.stringify(content)), sealedBy: vault.kid }
}

/** Those that sign now, the newest first. Throws when no key of the vault opens them. */
export async function openSecrets(vault: Vault, row: WebhookRow, now: number): Promise<string[]> {
  const { secret, former } = await open(vault, row)
  return former && former.until > now ? [secret, former.secret] : [secret]
}

async function open(vault: Vault, row: WebhookRow): Promise<Sealed> {
  return Sealed.parse(JSON.parse(await vault.open(contextOf(row), row.sealedSecret)))
}

/** Seals with the vault's newest key what an older one has sealed. May run in several processes at once, and again after a failure. */
export async function resealWebhooks({ store, vault, log }: { store: { readonly db: Db }; vault: Vault; log: Log }): Promise<void> {
  for (let after: WebhookRow | undefined; ; ) {
    const page = await sealedByOthers(store.db, vault.kid, after, PAGE)
    for (const row of page) {
      try {
        await swapSeal(store.db, row, await vault.seal(contextOf(row), await vault.open(contextOf(row), row.sealedSecret)), vault.kid)
      } catch (error) {
        log.error({ err: error, tenant: row.tenant, webhook: row.id }, 'the secret of a webhook could not be sealed anew')
      }
    }
    after = page.at(-1)
    if (page.length < PAGE) return
  }
}
