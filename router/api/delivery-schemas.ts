/** The shapes of messages to webhooks, and of what became of them. */
import { z } from '@hono/zod-openapi'
import { DELIVERY_STATES } from '../../drizzle/schema.ts'
import { WebhookFormat } from '../../shared/webhooks.ts'
import type { DeliveryRow } from '../store/deliveries.ts'

export const DeliveryId = z.string().regex(/^msg_[0-9a-f]{32}$/, 'is not the id of a delivery')
export const DeliveryState = z.enum(DELIVERY_STATES)

const delivery = {
  id: z.string().openapi({ description: 'Its `webhook-id`, the same in every attempt.' }),
  webhook: z.string().nullable().openapi({ description: 'Null: an address that the request named.' }),
  event: z.string(),
  run_id: z.string().nullable(),
  session_id: z.string().nullable(),
  url: z.string(),
  format: WebhookFormat,
  state: DeliveryState,
  attempts: z.int(),
  next_at: z.iso.datetime().nullable().openapi({ description: 'When it is tried next; null once it is settled.' }),
  last_at: z.iso.datetime().nullable(),
  status: z.int().nullable().openapi({ description: 'HTTP status of the last attempt, if it got one.' }),
  error: z.string().nullable(),
  created_at: z.iso.datetime(),
}
export const Delivery = z.object(delivery).openapi('Delivery')
export const DeliveryWithBody = z
  .object({
    ...delivery,
    body: z.string().nullable().openapi({
      description: 'As it is sent. Null when it is not kept any more: it was delivered more than 3 days ago, or its session was deleted.',
    }),
  })
  .openapi('DeliveryWithBody')

const iso = (ms: number) => new Date(ms).toISOString()
const isoOrNull = (ms: number | null) => (ms === null ? null : iso(ms))

/** For admins. */
export function deliveryView(row: DeliveryRow): z.infer<typeof Delivery> {
  const { id, webhook, event, run, session, url, format, state, attempts, status, error } = row
  const times = { next_at: isoOrNull(row.nextAt), last_at: isoOrNull(row.lastAt), created_at: iso(row.createdAt) }
  return { id, webhook, event, run_id: run, session_id: session, url, format, state, attempts, status, error, ...times }
}

/** For apps: the path of an address that an admin has set may be what it is protected by. */
export function deliveryForApp(row: DeliveryRow): z.infer<typeof Delivery> {
  return { ...deliveryView(row), ...(row.webhook === null ? {} : { url: new URL(row.url).origin }) }
}
