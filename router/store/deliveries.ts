/**
 * Messages to addresses, and what became of them. Ids begin with the time of what they tell, so they sort by age.
 *
 * Whoever tries one claims it for a while, by a compare-and-set, and records what happened only while the claim is his. A
 * claim that was never recorded ends by itself and the message is tried again: rather twice than not at all.
 */
import { and, desc, eq, inArray, isNull, lt, lte, ne, sql } from 'drizzle-orm'
import { deliveries, notices, type DELIVERY_STATES } from '../../drizzle/schema.ts'
import type { Db, Statement, Store } from '../ports.ts'

export type NoticeRow = typeof notices.$inferSelect
export type DeliveryRow = typeof deliveries.$inferSelect
export type DeliveryState = (typeof DELIVERY_STATES)[number]
export type NewDelivery = Pick<DeliveryRow, 'id' | 'tenant' | 'webhook' | 'event' | 'run' | 'session' | 'url' | 'format' | 'body' | 'createdAt'>

/** `msg_`, 12 hex digits of milliseconds, and 20 that are its own. */
export const deliveryIdAt = (ms: number): string => `msg_${Math.max(0, ms).toString(16).padStart(12, '0')}`

/** The oldest first. `tenant`: of this one only. */
export function oldestNotices(db: Db, tenant: string | undefined, limit: number): Promise<NoticeRow[]> {
  return db.select().from(notices).where(tenant === undefined ? undefined : eq(notices.tenant, tenant)).orderBy(notices.at, notices.id).limit(limit)
}

/** The notice becomes these, unless somebody else has made them of it. */
export async function replaceNotice(store: Store, notice: string, made: readonly NewDelivery[]): Promise<void> {
  const { db } = store
  const isThere = sql`EXISTS (SELECT 1 FROM ${notices} WHERE id = ${notice})`
  const inserts = made.map(
    (d) =>
      db.run(sql`
        INSERT INTO ${deliveries} (id, tenant, webhook, event, run, session, url, format, body, state, attempts, next_at, created_at)
        SELECT ${d.id}, ${d.tenant}, ${d.webhook}, ${d.event}, ${d.run}, ${d.session}, ${d.url}, ${d.format}, ${d.body},
          'pending', 0, ${d.createdAt}, ${d.createdAt}
        WHERE ${isThere} ON CONFLICT (id) DO NOTHING`) as Statement,
  )
  await store.batch([...inserts, db.delete(notices).where(eq(notices.id, notice))])
}

export function insertDelivery(db: Db, delivery: NewDelivery): Statement {
  return db.insert(deliveries).values({ ...delivery, state: 'pending', attempts: 0, nextAt: delivery.createdAt })
}

/** By the index of what is due: SQLite would rather look at all that there ever was of a tenant, so it is not let to (`+`). */
const ofTenant = (tenant: string | undefined) => (tenant === undefined ? sql`TRUE` : sql`+tenant = ${tenant}`)

/** When there is something to do, by the clock of whoever wrote it; undefined when there is nothing. */
export async function nextDue(db: Db, tenant?: string): Promise<number | undefined> {
  const its = ofTenant(tenant)
  const [row] = await db.all<{ notice: number | null; due: number | null }>(sql`
    SELECT (SELECT min(at) FROM ${notices} WHERE ${its}) AS notice,
      (SELECT min(next_at) FROM ${deliveries} WHERE next_at IS NOT NULL AND ${its}) AS due`)
  if (row?.notice !== null && row?.notice !== undefined) return Math.min(row.notice, row.due ?? Infinity)
  return row?.due ?? undefined
}

/** Tenants for whom something is due. */
export async function tenantsWithWork(db: Db, now: number): Promise<string[]> {
  const rows = await db.all<{ tenant: string }>(sql`
    SELECT tenant FROM ${notices} UNION SELECT tenant FROM ${deliveries} WHERE next_at <= ${now}`)
  return rows.map((row) => row.tenant)
}

/** How many may be under way at once: in all for who asks, and over all processes for one tenant, and for one host of its. */
export interface Room {
  readonly free: number
  readonly perTenant: number
  readonly perHost: number
}

/** `https://host:port`: in the form in which addresses are kept a slash follows it. 9 is a character behind `http://`. */
const ORIGIN = sql`substr(url, 1, 8 + instr(substr(url, 9), '/'))`

/**
 * Claims what is due until `until`. Tenants take turns, and so do the hosts of each: a receiver that does not answer is in
 * the way of itself only.
 */
export async function claimDue(db: Db, now: number, until: number, { free, perTenant, perHost }: Room, tenant?: string): Promise<DeliveryRow[]> {
  const its = ofTenant(tenant)
  const chosen = sql`
    SELECT id FROM (
      SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY busy DESC, place, next_at, id) AS turn FROM (
        SELECT id, tenant, next_at, coalesce(claimed_until > ${now}, 0) AS busy,
          row_number() OVER (PARTITION BY tenant, ${ORIGIN} ORDER BY coalesce(claimed_until > ${now}, 0) DESC, next_at, id) AS place
        FROM ${deliveries} WHERE next_at <= ${until} AND (next_at <= ${now} OR claimed_until > ${now}) AND ${its}))
    WHERE NOT busy AND place <= ${perHost} AND turn <= ${perTenant} ORDER BY turn, next_at LIMIT ${free}`
  return db
    .update(deliveries)
    .set({ claimedUntil: until, nextAt: until, attempts: sql`attempts + 1` })
    .where(and(sql`${deliveries.id} IN (${chosen})`, lte(deliveries.nextAt, now)))
    .returning()
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

/** At once: again from the beginning when it was settled, ahead of its time when it waits. Nothing while it is being tried. */
export function redelivery(db: Db, { tenant, id }: DeliveryRow, now: number): Statement {
  return db
    .update(deliveries)
    .set({ state: 'pending', nextAt: now, claimedUntil: null, attempts: sql`CASE WHEN state = 'pending' THEN attempts ELSE 0 END` })
    .where(and(eq(deliveries.id, id), eq(deliveries.tenant, tenant), sql`(claimed_until IS NULL OR claimed_until <= ${now})`))
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
        run === undefined ? eq(deliveries.tenant, tenant) : ofTenant(tenant),
        webhook === undefined ? undefined : webhook === null ? isNull(deliveries.webhook) : eq(deliveries.webhook, webhook),
        run === undefined ? undefined : eq(deliveries.run, run),
        state === undefined ? undefined : eq(deliveries.state, state),
        after === undefined ? undefined : lt(deliveries.id, after),
      ),
    )
    .orderBy(desc(deliveries.id))
    .limit(limit)
}

const KEEP_MS = 30 * 86_400_000
const MAX_ROWS = 500

/** Those that were settled, of things that happened more than 30 days ago; so many at a time. */
export async function pruneDeliveries(db: Db, now: number): Promise<void> {
  const old = db
    .select({ id: deliveries.id })
    .from(deliveries)
    .where(and(lt(deliveries.id, deliveryIdAt(now - KEEP_MS)), ne(deliveries.state, 'pending')))
    .limit(MAX_ROWS)
  await db.delete(deliveries).where(inArray(deliveries.id, old))
}
