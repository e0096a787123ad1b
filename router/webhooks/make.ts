/**
 * Notices become messages: one for each webhook that wants to hear of the event, with its body. All of a notice's messages
 * and its end are one batch, and their ids follow from it, so that who makes them twice makes the same ones.
 */
import { WEBHOOK_EVENTS, type RunWebhook } from '../../shared/webhooks.ts'
import { resultOf } from '../engine/result.ts'
import type { Log, Records, RunRow, Store } from '../ports.ts'
import { countWaiting, deliveryIdAt, oldestNotices, originOf, replaceNotice, type NewDelivery, type NoticeRow } from '../store/deliveries.ts'
import { findSession } from '../store/sessions.ts'
import { listWebhooks } from '../store/webhooks.ts'
import { bodyOf, type Facts } from './body.ts'

/** Webhooks that one tenant may have: each multiplies what is sent. */
export const MAX_WEBHOOKS = 32
/** Messages that may wait for one receiver of a tenant; what comes on top of them has failed, and can be sent again when asked for. */
export const MAX_WAITING = 10_000
const PAGE = 50
/** A result that could not be had for so long is left out: the news is worth more than its details. */
const PATIENCE_MS = 10 * 60_000

export interface MakeParts {
  readonly store: Store
  readonly records: Records
  readonly log: Log
  /** `MAX_WAITING`, but in tests. */
  readonly mostWaiting?: number | undefined
}

/** What an address hears of that one request names, unless it says. */
const ENDINGS: readonly string[] = WEBHOOK_EVENTS.filter((event) => event.startsWith('run.') && event !== 'run.started')

/** One page of the oldest. Resolves to how many were made into messages. */
export async function makeMessages(parts: MakeParts, now: number, tenant?: string): Promise<number> {
  const page = await oldestNotices(parts.store.db, tenant, PAGE)
  const room = roomOf(parts)
  let made = 0
  for (const notice of page) {
    try {
      await makeOf(parts, notice, now, room)
      made++
    } catch (error) {
      // It waits for the next time and keeps no other from being told.
      parts.log.warn({ err: error, notice: notice.id }, 'what happened could not be made into messages yet')
    }
  }
  return made
}

type Room = (tenant: string, url: string) => Promise<string | undefined>

/** Why one more may not wait for a receiver. It counts once per page and receiver: what is made of a page goes by on top. */
function roomOf({ store, mostWaiting = MAX_WAITING }: MakeParts): Room {
  const counted = new Map<string, Promise<number>>()
  return async (tenant, url) => {
    const origin = originOf(url)
    const key = `${tenant} ${origin}`
    const count = counted.get(key) ?? countWaiting(store.db, tenant, origin, mostWaiting)
    counted.set(key, count)
    return (await count) >= mostWaiting ? 'too many messages wait for this receiver' : undefined
  }
}

async function makeOf(parts: MakeParts, notice: NoticeRow, now: number, room: Room): Promise<void> {
  const { store, records } = parts
  const { tenant, event, run, session, at } = notice
  const [row, hooks] = await Promise.all([
    run === null ? undefined : findRun(records, notice),
    listWebhooks(store.db, tenant, undefined, MAX_WEBHOOKS),
  ])
  const wanting = hooks.filter((hook) => hook.enabled && (hook.events === null || hook.events.includes(event)))
  const own = row?.webhook && isWanted(row.webhook, event) ? row.webhook : undefined
  if (wanting.length === 0 && !own) return replaceNotice(store, notice, [])
  const facts = await factsOf(parts, notice, row, now)
  const about = { tenant, event, run, session, createdAt: now }
  const messages: NewDelivery[] = []
  for (const { id, url, format } of wanting) {
    const body = bodyOf(notice, facts, format, false)
    if (url === null) continue
    messages.push({ ...about, id: await idOf(at, notice.id, id), webhook: id, url, format, body, refused: await room(tenant, url) })
  }
  if (own) {
    const { format } = own
    const url = new URL(own.url).href
    const body = bodyOf(notice, facts, format, true)
    messages.push({ ...about, id: await idOf(at, notice.id, ''), webhook: null, url, format, body, refused: await room(tenant, url) })
  }
  await replaceNotice(store, notice, messages)
}

const findRun = (records: Records, { tenant, run }: NoticeRow) => records.find({ tenant, run: run ?? '' })

function isWanted({ events }: RunWebhook, event: string): boolean {
  return events ? (events as readonly string[]).includes(event) : ENDINGS.includes(event)
}

async function factsOf({ store, records }: MakeParts, notice: NoticeRow, run: RunRow | undefined, now: number): Promise<Facts> {
  if (notice.bare === true) return { run: run && { ...run, metadata: null } }
  if (notice.run === null) return { session: await findSession(store.db, notice.tenant, notice.session ?? '') }
  if (!run || notice.event === 'run.started') return { run }
  try {
    return { run, result: await resultOf(records, run) }
  } catch (error) {
    if (now - notice.at < PATIENCE_MS) throw error
    return { run }
  }
}

/** 80 bits of a hash behind the time of what it tells. */
export async function idOf(at: number, notice: string, webhook: string): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${notice}\0${webhook}`)))
  return deliveryIdAt(at) + Array.from(hash.subarray(0, 10), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
