/**
 * Whose messages are sent next, at a cost that follows from how many may be sent and not from how many wait.
 *
 * A look steps from tenant to tenant and from receiver to receiver by single seeks in indexes of what waits, and takes no more
 * of each than there is room for. It takes so many steps at most; where it stopped is kept by whoever looks (`Turns`), and
 * his next look goes on there.
 */
import { and, lte, sql, type SQL } from 'drizzle-orm'
import { deliveries, notices } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'
import type { DeliveryRow } from './deliveries.ts'

/** How many may be under way at once: in all for who asks, and over all processes for one tenant, and for one receiver of its. */
export interface Room {
  readonly free: number
  readonly perTenant: number
  readonly perHost: number
}

/** Where somebody's next look begins: behind this tenant, and behind this receiver of a tenant. */
export interface Turns {
  tenant: string
  readonly origins: Map<string, string>
}
export const newTurns = (): Turns => ({ tenant: '', origins: new Map() })

/** Seeks of one look, among the tenants and among the receivers of each; a hundred take less than a millisecond. */
const STEPS = 64
/** Of one look: each is a query. */
const TENANTS = 16

/** When there is something to do, by the clock of whoever wrote it; undefined when there is nothing. */
export async function nextDue(db: Db, tenant?: string): Promise<number | undefined> {
  const [noticesOf, messagesOf] =
    tenant === undefined
      ? [sql`TRUE`, sql`INDEXED BY deliveries_due WHERE next_at IS NOT NULL`]
      : [sql`tenant = ${tenant}`, sql`INDEXED BY deliveries_next WHERE next_at IS NOT NULL AND tenant = ${tenant}`]
  const [row] = await db.all<{ notice: number | null; due: number | null }>(sql`
    SELECT (SELECT min(at) FROM ${notices} WHERE ${noticesOf}) AS notice,
      (SELECT next_at FROM ${deliveries} ${messagesOf} ORDER BY next_at LIMIT 1) AS due`)
  if (row?.notice !== null && row?.notice !== undefined) return Math.min(row.notice, row.due ?? Infinity)
  return row?.due ?? undefined
}

const isMore = (steps: number | undefined) => (steps === undefined ? sql`TRUE` : sql`n < ${steps}`)

/** `waiting(tenant, n)`: those behind `after` for whom messages wait, by so many seeks at most. The last one may be null. */
const waitingTenants = (after: string, steps?: number) => {
  const next = (behind: unknown) => sql`
    (SELECT tenant FROM ${deliveries} INDEXED BY deliveries_next WHERE next_at IS NOT NULL AND tenant > ${behind} ORDER BY tenant LIMIT 1)`
  return sql`waiting(tenant, n) AS (SELECT ${next(after)}, 1
    UNION ALL SELECT ${next(sql`waiting.tenant`)}, n + 1 FROM waiting WHERE waiting.tenant IS NOT NULL AND ${isMore(steps)})`
}
const firstOfTenant = sql`
  (SELECT next_at FROM ${deliveries} INDEXED BY deliveries_next WHERE next_at IS NOT NULL AND tenant = waiting.tenant ORDER BY next_at LIMIT 1)`

/** The same of the receivers of a tenant: `waiting(origin, n)`. */
const waitingOrigins = (tenant: string, after: string, steps: number) => {
  const next = (behind: unknown) => sql`
    (SELECT origin FROM ${deliveries} INDEXED BY deliveries_turn
      WHERE next_at IS NOT NULL AND tenant = ${tenant} AND origin > ${behind} ORDER BY origin LIMIT 1)`
  return sql`waiting(origin, n) AS (SELECT ${next(after)}, 1
    UNION ALL SELECT ${next(sql`waiting.origin`)}, n + 1 FROM waiting WHERE waiting.origin IS NOT NULL AND ${isMore(steps)})`
}
const firstOfOrigin = (tenant: string) => sql`
  (SELECT next_at FROM ${deliveries} INDEXED BY deliveries_turn
    WHERE next_at IS NOT NULL AND tenant = ${tenant} AND origin = waiting.origin ORDER BY next_at LIMIT 1)`

/** How many are being tried. */
const busy = (now: number, whose: SQL) => sql`
  (SELECT count(*) FROM ${deliveries} INDEXED BY deliveries_claimed WHERE claimed_until IS NOT NULL AND ${whose} AND claimed_until > ${now})`

/** Tenants for whom something is due. */
export async function tenantsWithWork(db: Db, now: number): Promise<string[]> {
  const rows = await db.all<{ tenant: string }>(sql`
    WITH RECURSIVE ${waitingTenants('')}
    SELECT tenant FROM ${notices} UNION SELECT tenant FROM waiting WHERE tenant IS NOT NULL AND ${firstOfTenant} <= ${now}`)
  return rows.map((row) => row.tenant)
}

export interface Look {
  readonly claimed: DeliveryRow[]
  /** False: it began or ended somewhere in between, and there may be more for the next one. */
  readonly isWhole: boolean
}

/**
 * Claims what is due until `until`. Tenants take turns, and so do the receivers of each: one that does not answer is in the
 * way of itself only.
 */
export async function claimDue(db: Db, now: number, until: number, room: Room, turns: Turns, tenant?: string): Promise<Look> {
  const tenants = tenant === undefined ? await readyTenants(db, now, room, turns) : { ready: [tenant], isWhole: true }
  let { isWhole } = tenants
  const ready: Waiting[] = []
  for (const one of tenants.ready) {
    const origins = await readyOrigins(db, now, room, turns, one)
    isWhole &&= origins.isWhole
    ready.push(...origins.ready.map((origin) => ({ tenant: one, origin })))
  }
  return { claimed: ready.length === 0 ? [] : await claim(db, now, until, room, ready), isWhole }
}

interface Waiting {
  readonly tenant: string
  readonly origin: string
}

interface Step {
  readonly at: string
  readonly n: number
  readonly isReady: number
}

/** Those for whom something is due and who have room. */
async function readyTenants(db: Db, now: number, { perTenant }: Room, turns: Turns): Promise<{ ready: string[]; isWhole: boolean }> {
  const after = turns.tenant
  const hasRoom = sql`${busy(now, sql`tenant = waiting.tenant`)} < ${perTenant}`
  const steps = await db.all<Step>(sql`
    WITH RECURSIVE ${waitingTenants(after, STEPS)}
    SELECT * FROM (SELECT tenant AS at, n, ${firstOfTenant} <= ${now} AND ${hasRoom} AS isReady FROM waiting WHERE tenant IS NOT NULL)
    WHERE isReady OR n = ${STEPS} LIMIT ${TENANTS}`)
  turns.tenant = endOf(steps, TENANTS)
  return { ready: readyOnes(steps), isWhole: after === '' && turns.tenant === '' }
}

async function readyOrigins(
  db: Db,
  now: number,
  { perTenant, perHost }: Room,
  turns: Turns,
  tenant: string,
): Promise<{ ready: string[]; isWhole: boolean }> {
  const after = turns.origins.get(tenant) ?? ''
  const hasRoom = sql`${busy(now, sql`tenant = ${tenant} AND origin = waiting.origin`)} < ${perHost}`
  const steps = await db.all<Step>(sql`
    WITH RECURSIVE ${waitingOrigins(tenant, after, STEPS)}
    SELECT * FROM (SELECT origin AS at, n, ${firstOfOrigin(tenant)} <= ${now} AND ${hasRoom} AS isReady FROM waiting WHERE origin IS NOT NULL)
    WHERE isReady OR n = ${STEPS} LIMIT ${perTenant}`)
  const end = endOf(steps, perTenant)
  if (end === '') turns.origins.delete(tenant)
  else turns.origins.set(tenant, end)
  return { ready: readyOnes(steps), isWhole: after === '' && end === '' }
}

/** Where the next look begins: behind the last one that this one has seen, or anew when there is none behind it. */
function endOf(steps: readonly Step[], most: number): string {
  const last = steps.at(-1)
  return last && (steps.length === most || last.n === STEPS) ? last.at : ''
}

const readyOnes = (steps: readonly Step[]) => steps.filter(({ isReady }) => isReady === 1).map(({ at }) => at)

/** One statement, so that two processes do not fill the same room. */
function claim(db: Db, now: number, until: number, { free, perTenant, perHost }: Room, ready: readonly Waiting[]): Promise<DeliveryRow[]> {
  const its = sql`tenant = receiver.value ->> 'tenant' AND origin = receiver.value ->> 'origin'`
  const chosen = sql`
    SELECT id FROM (
      SELECT id, next_at, place, ${busy(now, sql`tenant = theirs.tenant`)} + row_number() OVER (PARTITION BY tenant ORDER BY place, next_at, id) AS turn
      FROM (
        SELECT due.id, due.tenant, due.next_at,
          ${busy(now, its)} + row_number() OVER (PARTITION BY receiver.key ORDER BY due.next_at, due.id) AS place
        FROM json_each(${JSON.stringify(ready)}) AS receiver CROSS JOIN ${deliveries} AS due WHERE due.id IN (
          SELECT id FROM ${deliveries} INDEXED BY deliveries_turn
          WHERE next_at IS NOT NULL AND ${its} AND next_at <= ${now} ORDER BY next_at LIMIT ${perHost})
      ) AS theirs WHERE place <= ${perHost})
    WHERE turn <= ${perTenant} ORDER BY turn, next_at LIMIT ${free}`
  return db
    .update(deliveries)
    .set({ claimedUntil: until, nextAt: until, attempts: sql`attempts + 1` })
    .where(and(sql`${deliveries.id} IN (${chosen})`, lte(deliveries.nextAt, now)))
    .returning()
}
