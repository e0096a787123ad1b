/** The shapes of webhooks, in and out. */
import { z } from '@hono/zod-openapi'
import { TenantId } from '../../shared/ids.ts'
import { WebhookEvent, WebhookFormat, WebhookUrl } from '../../shared/webhooks.ts'
import type { WebhookRow } from '../store/webhooks.ts'
import { iso } from './change.ts'

const fields = {
  // Made before what adds .openapi() was loaded.
  url: WebhookUrl.describe('Such as https://example.com/hooks/runyard.'),
  events: z.array(WebhookEvent).min(1).max(16).nullable().openapi({ description: 'Null: all of them, and those to come.' }),
  format: WebhookFormat,
  enabled: z.boolean(),
}

export const NewWebhook = z.strictObject({
  url: fields.url,
  events: fields.events.default(null),
  format: fields.format.default('standard'),
  enabled: fields.enabled.default(true),
  tenant: TenantId.optional().describe('Your own unless given'),
})
export const WebhookPatch = z.strictObject(fields).partial()

export const Webhook = z
  .object({ id: z.string(), ...fields, url: z.string(), created_at: z.iso.datetime(), updated_at: z.iso.datetime() })
  .openapi('Webhook')
const secret = z.string().openapi({ description: 'Shown this once.', example: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' })
export const CreatedWebhook = Webhook.extend({ secret }).openapi('CreatedWebhook')
export const NewSecret = z.object({ id: z.string(), secret }).openapi('WebhookSecret')

export function webhookView({ id, url, events, format, enabled, createdAt, updatedAt }: WebhookRow): z.infer<typeof Webhook> {
  return { id, url: url ?? '', events: events as WebhookEvent[] | null, format, enabled, created_at: iso(createdAt), updated_at: iso(updatedAt) }
}
