/** Batches: what was asked for together, and what of it was not taken. Which runs came of it, their own rows say. */
import { and, asc, desc, eq, lt, sql } from 'drizzle-orm'
import { batches, idempotency, runs } from '../../drizzle/schema.ts'
import type { Claim, Db, RunRow, RunState, Statement, Store } from '../ports.ts'
import { IDEMPOTENCY_TTL_MS } from './idempotency.ts'
import { sumOfUsd } from './money.ts'

export type BatchRow = typeof batches.$inferSelect
export type Refused = BatchRow['refused'][number]

const MEMBER = {
  id: runs.id,
  index: runs.batchIndex,
  state: runs.state,
  session: runs.session,
  costUsd: runs.costUsd,
  errorCode: runs.errorCode,
  errorMessage: runs.errorMessage,
}
/** What a batch shows of one of its runs. */
export type MemberRow = Pick<RunRow, 'id' | 'state' | 'session' | 'costUsd' | 'errorCode' | 'errorMessage'> & { readonly index: number | null }

/** With a claim, only if its key is free, in the same commit. False: it is not, and nothing was written. */
export async function insertBatch(store: Store, row: BatchRow, claim: Claim | undefined): Promise<boolean> {
  const { db } = store
  const { id, tenant } = row
  const mine = claim ? sql`EXISTS (SELECT 1 FROM ${idempotency} WHERE tenant = ${tenant} AND key = ${claim.key} AND run = ${id})` : sql`TRUE`
  const insert = db.all(sql`
    INSERT INTO ${batches} (id, tenant, subject, size, refused, metadata, created_at)
    SELECT ${id}, ${tenant}, ${row.subject}, ${row.size}, ${JSON.stringify(row.refused)}, ${row.metadata === null ? null : JSON.stringify(row.metadata)}, ${row.createdAt}
    WHERE ${mine}
    RETURNING id`)
  if (!claim) return (await insert).length === 1
  const claimed = db.run(sql`
    INSERT INTO ${idempotency} (tenant, key, hash, run, expires_at)
    VALUES (${tenant}, ${claim.key}, ${claim.hash}, ${id}, ${row.createdAt + IDEMPOTENCY_TTL_MS})
    ON CONFLICT (tenant, key) DO NOTHING`)
  const results = await store.batch([claimed, insert] as Statement[])
  return (results[1] as unknown[]).length === 1
}

export async function findBatch(db: Db, tenant: string, id: string): Promise<BatchRow | undefined> {
  const [row] = await db.select().from(batches).where(and(eq(batches.id, id), eq(batches.tenant, tenant))).limit(1)
  return row
}

/** Newest first; ids sort by age, so the last one seen is the cursor. */
export function listBatches(db: Db, tenant: string, { before, limit }: { before: string | undefined; limit: number }): Promise<BatchRow[]> {
  return db
    .select()
    .from(batches)
    .where(and(eq(batches.tenant, tenant), before === undefined ? undefined : lt(batches.id, before)))
    .orderBy(desc(batches.id))
    .limit(limit)
}

/** Each place is refused once: the first reason stands. */
export async function refuseItems(db: Db, id: string, refused: readonly Refused[]): Promise<void> {
  const more = JSON.stringify(refused)
  await db.run(sql`
    UPDATE ${batches} SET refused = (
      SELECT json_group_array(json(value)) FROM (
        SELECT value FROM json_each(${batches}.refused)
        UNION ALL
        SELECT value FROM json_each(${more})
        WHERE json_extract(value, '$.index') NOT IN (SELECT json_extract(value, '$.index') FROM json_each(${batches}.refused))))
    WHERE id = ${id}`)
}

/** In their order. */
export function runsOfBatch(db: Db, tenant: string, batch: string): Promise<MemberRow[]> {
  return db
    .select(MEMBER)
    .from(runs)
    .where(and(eq(runs.batch, batch), eq(runs.tenant, tenant)))
    .orderBy(asc(runs.batchIndex))
}

export type BatchTally = { readonly batch: string; readonly state: RunState; readonly count: number; readonly usd: number }

/** How many runs of each batch are in which state, and what they have cost. */
export async function tallyBatches(db: Db, tenant: string, ids: readonly string[]): Promise<BatchTally[]> {
  if (ids.length === 0) return []
  const among = sql.join(ids.map((id) => sql`${id}`), sql`, `)
  return db.all(sql`
    SELECT batch AS "batch", state AS "state", count(*) AS "count", ${sumOfUsd(sql`cost_usd`)} AS "usd" FROM ${runs}
    WHERE batch IN (${among}) AND tenant = ${tenant} GROUP BY batch, state`)
}
