/** Where tenants want to hear of things. Every query names the tenant; a secret is here only sealed. */
import { and, asc, count, eq, gt, isNotNull, ne, or, sql } from 'drizzle-orm'
import { deliveries, webhooks } from '../../drizzle/schema.ts'
import type { Db, Statement } from '../ports.ts'
import { originOf } from './deliveries.ts'

export type WebhookRow = typeof webhooks.$inferSelect
export type WebhookChange = Partial<Pick<WebhookRow, 'url' | 'events' | 'format' | 'enabled' | 'sealedSecret' | 'sealedBy'>>

/** The row whose secret signs what goes to addresses that single requests name. */
export const REQUEST = 'request'

const which = (tenant: string, id: string) => and(eq(webhooks.tenant, tenant), eq(webhooks.id, id))

/** By id, without that of single requests. */
export function listWebhooks(db: Db, tenant: string, after: string | undefined, limit: number): Promise<WebhookRow[]> {
  return db
    .select()
    .from(webhooks)
    .where(and(eq(webhooks.tenant, tenant), isNotNull(webhooks.url), after === undefined ? undefined : gt(webhooks.id, after)))
    .orderBy(asc(webhooks.id))
    .limit(limit)
}

export async function findWebhook(db: Db, tenant: string, id: string): Promise<WebhookRow | undefined> {
  const [row] = await db.select().from(webhooks).where(which(tenant, id)).limit(1)
  return row
}

/** Unless the tenant has `most` already: then the batch fails as if it were there, and nothing of it is written. */
export function insertWebhook(db: Db, row: WebhookRow, most: number): Statement {
  const isRoom = sql`(SELECT count(*) FROM ${webhooks} WHERE tenant = ${row.tenant} AND url IS NOT NULL) < ${most}`
  // No value for a column that has to have one.
  return db.insert(webhooks).values({ ...row, id: sql`CASE WHEN ${isRoom} THEN ${row.id} END` })
}

/** Does nothing where there is one already. */
export async function haveWebhook(db: Db, row: WebhookRow): Promise<void> {
  await db.insert(webhooks).values(row).onConflictDoNothing()
}

/** By the index of what waits, which is short: the other one of the tenant has all that was ever sent. */
const waitingFor = (tenant: string, id: string) => sql`id IN (
  SELECT id FROM ${deliveries} INDEXED BY deliveries_next WHERE next_at IS NOT NULL AND tenant = ${tenant} AND webhook = ${id})`

/** What waits goes to the new address too: the old one may be what is wrong. */
export function webhookChange(db: Db, { tenant, id }: WebhookRow, change: WebhookChange, now: number): Statement[] {
  return [
    db.update(webhooks).set({ ...change, updatedAt: now }).where(which(tenant, id)),
    ...(change.url ? [db.update(deliveries).set({ url: change.url, origin: originOf(change.url) }).where(waitingFor(tenant, id))] : []),
  ]
}

/** With what waits for it, which is failed then; what became of the rest stays to be read. */
export function webhookDeletion(db: Db, { tenant, id }: WebhookRow): Statement[] {
  return [
    db.delete(webhooks).where(which(tenant, id)),
    db.update(deliveries).set({ state: 'failed', nextAt: null, claimedUntil: null, error: 'the webhook was deleted' }).where(waitingFor(tenant, id)),
  ]
}

/** Rows whose secret another key of the vault than `kid` has sealed, of all tenants. `after`: where the last page ended. */
export function sealedByOthers(db: Db, kid: string, after: Pick<WebhookRow, 'tenant' | 'id'> | undefined, limit: number): Promise<WebhookRow[]> {
  const rest = after && or(gt(webhooks.tenant, after.tenant), and(eq(webhooks.tenant, after.tenant), gt(webhooks.id, after.id)))
  return db.select().from(webhooks).where(and(ne(webhooks.sealedBy, kid), rest)).orderBy(asc(webhooks.tenant), asc(webhooks.id)).limit(limit)
}

export async function countSealedByOthers(db: Db, kid: string): Promise<number> {
  const [row] = await db.select({ n: count() }).from(webhooks).where(ne(webhooks.sealedBy, kid))
  return row?.n ?? 0
}

/** The same secret, sealed anew; nothing when it is another one by now. */
export async function swapSeal(db: Db, was: WebhookRow, sealedSecret: string, sealedBy: string): Promise<void> {
  await db.update(webhooks).set({ sealedSecret, sealedBy }).where(and(which(was.tenant, was.id), eq(webhooks.sealedSecret, was.sealedSecret)))
}
