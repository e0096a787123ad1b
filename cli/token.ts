/** `runyard token create`: a token for an app or a person, printed once and stored nowhere. */
import { z } from 'zod'
import { openClient } from './client.ts'
import { out, say } from './output.ts'

export interface TokenCommand {
  readonly dataDir: string
  readonly url?: string | undefined
  readonly json: boolean
  readonly kind: 'app' | 'admin'
  readonly scopes: readonly string[]
  readonly subject?: string | undefined
  readonly tenant?: string | undefined
  readonly ttlS?: number | undefined
}

const Created = z.object({ token: z.string(), jti: z.string(), expires_at: z.string() })

export async function createToken(command: TokenCommand): Promise<void> {
  const client = await openClient({ dataDir: command.dataDir, url: command.url, admin: true })
  const { kind, scopes, subject, tenant, ttlS } = command
  const body = { kind, scopes: scopes.length > 0 ? scopes : undefined, subject, tenant, ttl_s: ttlS }
  const response = await client.fetch('/admin/v1/tokens', { method: 'POST', body: JSON.stringify(body) })
  const created = Created.parse(await response.json())
  if (command.json) return out(JSON.stringify(created))
  out(created.token)
  say(`valid until ${created.expires_at}; it is not stored, so keep it now`)
}
