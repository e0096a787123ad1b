/**
 * Messages to addresses, and what became of them. Ids begin with the time of what they tell, so they sort by age.
 *
 * Whoever tries one has claimed it (delivery-turns.ts) and records what happened only while the claim is his. A claim that
 * was never recorded ends by itself and the message is tried again: rather twice than not at all.
 */
import { and, desc, eq, inArray, isNotNull, isNull, lt, ne, sql, type SQL } from 'drizzle-orm'
import { deliveries, notices, type DELIVERY_STATES } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'

export type NoticeRow = typeof notices.$inferSelect
export type DeliveryRow = typeof deliveries.$inferSelect
export type DeliveryState = (typeof DELIVERY_STATES)[number]
export type NewDelivery = Pick<DeliveryRow, 'id' | 'tenant' | 'webhook' | 'event' | 'run' | 'session' | 'url' | 'format' | 'body' | 'createdAt'> & {
  /** Why it is failed from the start. */
  readonly refused?: string | undefined
}

/** `msg_`, 12 hex digits of milliseconds, and 20 that are its own. */
export const deliveryIdAt = (ms: number): string => `msg_${Math.max(0, ms).toString(16).padStart(12, '0')}`

/** The oldest first. `tenant`: of this one only. */
export function oldestNotices(db: Db, tenant: string | undefined, limit: number): Promise<NoticeRow[]> {
  return db.select().from(notices).where(tenant === undefined ? undefined : eq(notices.tenant, tenant)).orderBy(notices.at, notices.id).limit(limit)
}

/** Whatever has the same scheme, host and port is one receiver. */
export const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : '')

/** The notice becomes these, unless somebody else has made them of it, or its session was deleted since it was read. */
export async function replaceNotice(store: Store, { id, bare }: Pick<NoticeRow, 'id' | 'bare'>, made: readonly NewDelivery[]): Promise<void> {
  const { db } = store
  const asRead = sql`id = ${id} AND bare IS ${bare === null ? null : Number(bare)}`
  const inserts = made.map((d) => {
    const [state, nextAt] = d.refused === undefined ? (['pending', d.createdAt] as const) : (['failed', null] as const)
    return db.run(sql`
      INSERT INTO ${deliveries} (id, tenant, webhook, event, run, session, url, origin, format, body, state, attempts, next_at, error, created_at)
      SELECT ${d.id}, ${d.tenant}, ${d.webhook}, ${d.event}, ${d.run}, ${d.session}, ${d.url}, ${originOf(d.url)}, ${d.format}, ${d.body},
        ${state}, 0, ${nextAt}, ${d.refused ?? null}, ${d.createdAt}
      WHERE EXISTS (SELECT 1 FROM ${notices} WHERE ${asRead}) ON CONFLICT (id) DO NOTHING`) as Statement
  })
  await store.batch([...inserts, db.delete(notices).where(asRead)])
}

export function insertDelivery(db: Db, { refused: _none, ...delivery }: NewDelivery): Statement {
  return db.insert(deliveries).values({ ...delivery, origin: originOf(delivery.url), state: 'pending', attempts: 0, nextAt: delivery.createdAt })
}

/** How many of a tenant's messages wait for a receiver; more than `most` are not counted. */
export async function countWaiting(db: Db, tenant: string, origin: string, most: number): Promise<number> {
  const [row] = await db.all<{ n: number }>(sql`
    SELECT count(*) AS n FROM (
      SELECT 1 FROM ${deliveries} INDEXED BY deliveries_turn
      WHERE next_at IS NOT NULL AND tenant = ${tenant} AND origin = ${origin} LIMIT ${most})`)
  return row?.n ?? 0
}

export interface Outcome {
  readonly state: DeliveryState
  /** Milliseconds since 1970; null unless it is pending. */
  readonly nextAt: number | null
  readonly status: number | null
  readonly error: string | null
}

/** Nothing is written when the claim is over: somebody else tries it, or it was settled otherwise. */
export async function recordAttempt(db: Db, { id, attempts, claimedUntil }: DeliveryRow, outcome: Outcome, now: number): Promise<void> {
  const isHis = and(eq(deliveries.attempts, attempts), eq(deliveries.claimedUntil, claimedUntil ?? 0))
  await db
    .update(deliveries)
    .set({ ...outcome, claimedUntil: null, lastAt: now })
    .where(and(eq(deliveries.id, id), eq(deliveries.state, 'pending'), isHis))
}

/**
 * At once: again from the beginning when it was settled, ahead of its time when it waits. Nothing while it is being tried, or
 * when there is nothing to send any more.
 */
export function redelivery(db: Db, { tenant, id }: DeliveryRow, now: number): Statement {
  return db
    .update(deliveries)
    .set({ state: 'pending', nextAt: now, claimedUntil: null, attempts: sql`CASE WHEN state = 'pending' THEN attempts ELSE 0 END` })
    .where(and(eq(deliveries.id, id), eq(deliveries.tenant, tenant), isNotNull(deliveries.body), sql`(claimed_until IS NULL OR claimed_until <= ${now})`))
}

export async function findDelivery(db: Db, tenant: string, id: string): Promise<DeliveryRow | undefined> {
  const [row] = await db.select().from(deliveries).where(and(eq(deliveries.id, id), eq(deliveries.tenant, tenant))).limit(1)
  return row
}

export interface DeliveryFilter {
  /** Null: those to addresses that single requests named. */
  readonly webhook?: string | null | undefined
  readonly run?: string | undefined
  readonly state?: DeliveryState | undefined
  /** The last one that was seen. */
  readonly after?: string | undefined
  readonly limit: number
}

/** Newest first. */
export function listDeliveries(db: Db, tenant: string, { webhook, run, state, after, limit }: DeliveryFilter): Promise<DeliveryRow[]> {
  return db
    .select()
    .from(deliveries)
    .where(
      and(
        // By the run's own index: that of the tenant has all that was ever sent (`+` keeps SQLite from it).
        run === undefined ? eq(deliveries.tenant, tenant) : sql`+tenant = ${tenant}`,
        webhook === undefined ? undefined : webhook === null ? isNull(deliveries.webhook) : eq(deliveries.webhook, webhook),
        run === undefined ? undefined : eq(deliveries.run, run),
        state === undefined ? undefined : eq(deliveries.state, state),
        after === undefined ? undefined : lt(deliveries.id, after),
      ),
    )
    .orderBy(desc(deliveries.id))
    .limit(limit)
}

/** In front of the deletion of sessions: nothing that was said in them is sent or kept any more; that it was told stays to be read. */
export function silenceSessions(db: Db, theirs: SQL): Statement[] {
  const waits = sql`state = 'pending'`
  const settled = {
    body: null,
    state: sql`CASE WHEN ${waits} THEN 'failed' ELSE state END`,
    error: sql`CASE WHEN ${waits} THEN 'the session was deleted' ELSE error END`,
    nextAt: null,
    claimedUntil: null,
  }
  return [
    db.update(deliveries).set(settled).where(sql`${deliveries.session} IN ${theirs} AND body IS NOT NULL AND event <> 'session.deleted'`),
    db.update(notices).set({ bare: true }).where(sql`${notices.session} IN ${theirs}`),
  ]
}

const KEEP_MS = 30 * 86_400_000
/** What was taken is seldom asked for again, and bodies are most of what there is. */
const KEEP_DELIVERED_BODY_MS = 3 * 86_400_000
const MAX_ROWS = 500

/** Those that were settled, of things that happened more than 30 days ago, and bodies that were taken 3 days ago; so many at a time. */
export async function pruneDeliveries(db: Db, now: number): Promise<void> {
  const old = db
    .select({ id: deliveries.id })
    .from(deliveries)
    .where(and(lt(deliveries.id, deliveryIdAt(now - KEEP_MS)), ne(deliveries.state, 'pending')))
    .limit(MAX_ROWS)
  await db.delete(deliveries).where(inArray(deliveries.id, old))
  await db.run(sql`
    UPDATE ${deliveries} SET body = NULL WHERE id IN (
      SELECT id FROM ${deliveries} INDEXED BY deliveries_kept
      WHERE body IS NOT NULL AND state = 'delivered' AND id < ${deliveryIdAt(now - KEEP_DELIVERED_BODY_MS)} LIMIT ${MAX_ROWS})`)
}
