/** What is told by webhook, and the shapes that both a run and the admin API name. */
import { z } from 'zod'

export const WEBHOOK_EVENTS = [
  'run.started',
  'run.succeeded',
  'run.failed',
  'run.cancelled',
  'run.lost',
  'session.created',
  'session.deleted',
] as const
export const WebhookEvent = z.enum(WEBHOOK_EVENTS)
export type WebhookEvent = z.infer<typeof WebhookEvent>

/** `standard`: Standard Webhooks, with our own events. `ccs`: the bodies that clients of ccs read, signed all the same. */
export const WebhookFormat = z.enum(['standard', 'ccs'])
export type WebhookFormat = z.infer<typeof WebhookFormat>

/** Which addresses are good is decided where it is written and where it is called; here it only has to be one. */
export const WebhookUrl = z.url({ protocol: /^https?$/ }).max(2_048)

/** An address that one request names, for its own run. */
export const RunWebhook = z.object({ url: WebhookUrl, events: z.array(WebhookEvent).min(1).max(16).optional(), format: WebhookFormat.default('standard') })
export type RunWebhook = z.infer<typeof RunWebhook>
