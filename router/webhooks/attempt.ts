/**
 * One attempt: the message is signed, sent, and what came of it is what the row says next. 2xx takes it, 410 wants nothing
 * more of it, and whatever else is tried again until the schedule is over; an address that is not to be called, a few times.
 *
 * Who may try it, and that it is recorded, is the outbox's business.
 */
import type { Log, Platform, Store, Vault } from '../ports.ts'
import type { DeliveryRow, Outcome } from '../store/deliveries.ts'
import { findWebhook, haveWebhook, REQUEST, type WebhookRow } from '../store/webhooks.ts'
import { addressProblem } from './address.ts'
import { TEST_EVENT } from './body.ts'
import { NOT_PUBLIC, Undelivered, UNREACHABLE, type Post, type PostAnswer, type PostRequest } from './post.ts'
import { MAX_REFUSALS, retryAfterMs, retryDelayMs } from './schedule.ts'
import { newSecret, openSecrets, sealSecret } from './secret.ts'
import type { WebhookSettings } from './settings.ts'
import { headersOf } from './sign.ts'

export interface AttemptParts {
  readonly store: Store
  readonly vault: Vault
  readonly platform: Pick<Platform, 'now' | 'random'>
  readonly log: Log
  readonly post: Post
}

/** Throws when what it needs of us could not be had; then nothing was sent. */
export async function attempt(
  parts: AttemptParts,
  delivery: DeliveryRow,
  settings: WebhookSettings,
  signal: AbortSignal,
): Promise<Outcome> {
  const { platform, vault, store } = parts
  const { tenant, webhook, body } = delivery
  if (body === null) return failed(null, 'its body is not kept any more')
  const hook = await (webhook === null ? requestHook(parts, tenant) : findWebhook(store.db, tenant, webhook))
  if (!hook) return failed(null, 'the webhook was deleted')
  if (!hook.enabled && delivery.event !== TEST_EVENT) return failed(null, 'the webhook is disabled')
  const headers = headersOf({ ...delivery, body }, await openSecrets(vault, hook, platform.now()), platform.now())
  try {
    return judged(parts, delivery, await send(parts, { url: delivery.url, body, headers }, settings, signal))
  } catch (error) {
    // Not its fault: it is sent when somebody is there again.
    if (signal.aborted) return { state: 'pending', nextAt: platform.now(), status: null, error: 'the router was stopped' }
    if (!(error instanceof Undelivered)) parts.log.warn({ err: error, delivery: delivery.id }, 'a webhook could not be sent')
    const said = { status: null, error: error instanceof Undelivered ? error.message : UNREACHABLE }
    if (said.error === NOT_PUBLIC && delivery.attempts >= MAX_REFUSALS) return { state: 'failed', nextAt: null, ...said }
    return later(parts, delivery, said)
  }
}

function send(
  { post }: AttemptParts,
  { url, ...message }: Pick<PostRequest, 'url' | 'body' | 'headers'>,
  settings: WebhookSettings,
  signal: AbortSignal,
): Promise<PostAnswer> {
  const mayBePrivate = settings.allow_private
  // What was allowed when it was written down may not be any more.
  if (addressProblem(url, mayBePrivate) !== undefined) throw new Undelivered(NOT_PUBLIC)
  return post({ url, ...message, timeoutMs: settings.timeout_s * 1_000, mayBePrivate, signal })
}

function judged(parts: AttemptParts, delivery: DeliveryRow, { status, retryAfter }: PostAnswer): Outcome {
  if (status >= 200 && status < 300) return { state: 'delivered', nextAt: null, status, error: null }
  if (status === 410) return failed(status, 'the receiver wants nothing more of it')
  const askedMs = status === 429 || status === 503 ? retryAfterMs(retryAfter, parts.platform.now()) : 0
  return later(parts, delivery, { status, error: status >= 300 && status < 400 ? 'redirects are not followed' : null }, askedMs)
}

function later({ platform }: AttemptParts, { attempts }: DeliveryRow, said: Pick<Outcome, 'status' | 'error'>, askedMs = 0): Outcome {
  const delayMs = retryDelayMs(attempts, () => platform.random(), askedMs)
  return delayMs === undefined ? { state: 'failed', nextAt: null, ...said } : { state: 'pending', nextAt: platform.now() + delayMs, ...said }
}

const failed = (status: number | null, error: string): Outcome => ({ state: 'failed', nextAt: null, status, error })

/** The tenant's secret for addresses that single requests name, made when it is first needed. */
async function requestHook({ store, vault, platform }: AttemptParts, tenant: string): Promise<WebhookRow | undefined> {
  const known = await findWebhook(store.db, tenant, REQUEST)
  if (known) return known
  await haveWebhook(store.db, await requestRow(vault, tenant, newSecret(), platform.now()))
  // Of two that made one, the first counts.
  return findWebhook(store.db, tenant, REQUEST)
}

export async function requestRow(vault: Vault, tenant: string, secret: string, now: number): Promise<WebhookRow> {
  const sealed = await sealSecret(vault, { tenant, id: REQUEST }, secret)
  return { tenant, id: REQUEST, url: null, ...sealed, events: null, format: 'standard', enabled: true, createdAt: now, updatedAt: now }
}
