/** What every attempt carries: Standard Webhooks, whatever shape the body has. */
import { Webhook } from 'standardwebhooks'
import type { WebhookFormat } from '../../shared/webhooks.ts'
import { VERSION } from '../../shared/version.ts'

const AGENTS: Record<WebhookFormat, string> = { standard: `Runyard/${VERSION}`, ccs: 'Claude-API-Server/1.0' }

export interface Message {
  /** Its `webhook-id`: the same in every attempt, so that a receiver can tell a second one from a second message. */
  readonly id: string
  readonly format: WebhookFormat
  readonly body: string
}

/** `secrets`: one that is being replaced signs along; a receiver takes any signature that it can check. */
export function headersOf({ id, format, body }: Message, secrets: readonly string[], now: number): Record<string, string> {
  const at = new Date(now)
  return {
    'content-type': 'application/json',
    'user-agent': AGENTS[format],
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(now / 1_000)),
    'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(id, at, body)).join(' '),
  }
}
