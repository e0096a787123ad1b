/**
 * The row of a run. Every move is one compare-and-set on (state, fence): who loses it has been overtaken and must stop.
 */
import { and, eq, getTableColumns, inArray, isNotNull, isNull, lt, sql } from 'drizzle-orm'
import { idempotency, prompts, runs, sessions } from '../../drizzle/schema.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Home } from '../core/effects.ts'
import type { Claim, Db, NewRun, RunRow, Statement, Store } from '../ports.ts'
import { hasBudgetLeft, releaseStatements } from './allowances.ts'
import { IDEMPOTENCY_TTL_MS } from './idempotency.ts'
import { mapped } from './mapped.ts'
import { runNotice, sessionNotice } from './notices.ts'
import { compiled, prepared, type Given } from './prepared.ts'

const QUEUED = {
  id: runs.id,
  fence: runs.fence,
  tenant: runs.tenant,
  session: runs.session,
  pool: runs.pool,
  labels: runs.labels,
  bound: runs.bound,
  needs: runs.needs,
  priority: runs.priority,
  queueUntil: runs.queueUntil,
  createdAt: runs.createdAt,
  cancelRequestedAt: runs.cancelRequestedAt,
}
/** What the waiting line needs to know of a run. */
export type QueuedRow = Pick<RunRow, keyof typeof QUEUED>

/** A session has one turn at a time; a second one would fork its transcript. */
const sessionIsFree = (session: unknown, run: unknown) => sql`NOT EXISTS (
  SELECT 1 FROM ${runs} AS other WHERE other.session = ${session} AND other.id <> ${run} AND other.state IN ('offered', 'leased', 'running'))`

const SUBMITTED = ['id', 'tenant', 'subject', 'token', 'session', 'pool', 'labels', 'bound', 'needs', 'priority', 'queueUntil', 'spec', 'timeoutS', 'onDisconnectMs',
  'model', 'metadata', 'origin', 'batch', 'batchIndex', 'task', 'webhook', 'createdAt', 'state', 'runner', 'fence'] as const

/** `resumed`: the session that has to be there, `key`: that of its claim. */
type Submitted = Pick<RunRow, (typeof SUBMITTED)[number]> & { resumed: string | null; key: string | null }

/** A session that is deleted between the look at it and this would be there again, without its name, once the run is leased. */
const mayBegin = (given: Given<Pick<Submitted, 'id' | 'session' | 'runner' | 'resumed'>>) => sql`
  (${given('resumed')} IS NULL OR EXISTS (SELECT 1 FROM ${sessions} WHERE id = ${given('resumed')}))
  AND (${given('runner')} IS NULL OR ${sessionIsFree(given('session'), given('id'))})`

const claimed = compiled<Pick<Submitted, 'id' | 'tenant' | 'session' | 'runner' | 'resumed'> & Pick<Claim, keyof Claim> & { expiresAt: number }>(
  (given) => sql`
    INSERT INTO ${idempotency} (tenant, key, hash, run, expires_at)
    SELECT ${given('tenant')}, ${given('key')}, ${given('hash')}, ${given('id')}, ${given('expiresAt')} WHERE ${mayBegin(given)}
    ON CONFLICT (tenant, key) DO NOTHING`,
)

const inserted = compiled<Submitted>(
  (given) => sql`
    INSERT INTO ${runs} (${sql.join(SUBMITTED.map((name) => sql.identifier(runs[name].name)), sql`, `)})
    SELECT ${sql.join(SUBMITTED.map((name) => sql.param(given(name), runs[name])), sql`, `)}
    WHERE (${given('key')} IS NULL OR EXISTS (SELECT 1 FROM ${idempotency} WHERE tenant = ${given('tenant')} AND key = ${given('key')} AND run = ${given('id')}))
      AND ${mayBegin(given)}
    ON CONFLICT (id) DO NOTHING
    RETURNING id`,
)

/**
 * Writes the row: `offered` to `runner`, or `queued`. With a claim, only if its key is free, in the same commit.
 * False: the key is taken, its session is gone, or (when offered) that has a turn in progress.
 */
export async function insertRun(store: Store, run: NewRun, runner: string | undefined, claim: Claim | undefined): Promise<boolean> {
  const { db } = store
  const place = runner === undefined ? ({ state: 'queued', runner: null, fence: 0 } as const) : ({ state: 'offered', runner, fence: 1 } as const)
  const row = { ...run, ...place, task: run.task || null, resumed: run.spec.session.mode === 'resume' ? run.session : null, key: claim?.key ?? null }
  const insert = db.all(inserted(row))
  if (!claim) return (await insert).length === 1
  const claiming = db.run(claimed({ ...row, ...claim, expiresAt: run.createdAt + IDEMPOTENCY_TTL_MS }))
  const results = await store.batch([claiming, insert] as Statement[])
  return (results[1] as unknown[]).length === 1
}

const taken = compiled<{ run: string; fence: number; runner: string }>(
  (given) => sql`
    UPDATE ${runs} SET state = 'offered', runner = ${given('runner')}, fence = ${given('fence')} + 1
    WHERE id = ${given('run')} AND (
      (fence = ${given('fence')} AND state = 'queued' AND cancel_requested_at IS NULL
        AND ${sessionIsFree(sql`${runs}.session`, sql`${runs}.id`)} AND ${hasBudgetLeft(given('run'))})
      OR (fence = ${given('fence')} + 1 AND state = 'offered' AND runner = ${given('runner')}))
    RETURNING spec`,
)

/** Out of the line and to a runner, under the next fence. Undefined: gone from the line, to be cancelled, its session is busy, or its budget is spent. */
export async function takeFromQueue(db: Db, run: string, atFence: number, runner: string): Promise<RunSpec | undefined> {
  const [row] = await db.all<{ spec: string | null }>(taken({ run, fence: atFence, runner }))
  return row?.spec ? (runs.spec.mapFromDriverValue(row.spec) as RunSpec) : undefined
}

/** True for a run that waits and is to be cancelled. */
export async function isCancelWanted(db: Db, run: string): Promise<boolean> {
  const rows = await db.select({ id: runs.id }).from(runs).where(and(eq(runs.id, run), eq(runs.state, 'queued'), isNotNull(runs.cancelRequestedAt))).limit(1)
  return rows.length === 1
}

/** Back into the line: without a start nothing has happened, so another runner may be asked. The next take raises the fence. */
export async function returnToQueue(db: Db, run: string, atFence: number, from: 'offered' | 'leased'): Promise<QueuedRow | undefined> {
  const [row] = await db
    .update(runs)
    .set({ state: 'queued', runner: null })
    .where(and(eq(runs.id, run), eq(runs.fence, atFence), inArray(runs.state, [from, 'queued'])))
    .returning(QUEUED)
  return row
}

/** A run that was answered with a fault leaves nothing behind: its key is free again, and what it had reserved. */
export async function dropRefused(store: Store, run: string, atFence: number): Promise<void> {
  const { db } = store
  const dropped = db.delete(runs).where(and(eq(runs.id, run), eq(runs.fence, atFence), inArray(runs.state, ['queued', 'offered'])))
  const released = releaseStatements(db, run)
  const freed = db.delete(idempotency).where(and(eq(idempotency.run, run), sql`NOT EXISTS (SELECT 1 FROM ${runs} WHERE ${runs.id} = ${run})`))
  await store.batch([dropped, freed, ...released])
}

/** The waiting line as the database has it, after a restart. What was only offered has not started, so it waits again. */
export async function reviveQueue(db: Db): Promise<QueuedRow[]> {
  await db.update(runs).set({ state: 'queued', runner: null }).where(eq(runs.state, 'offered'))
  return db.select(QUEUED).from(runs).where(eq(runs.state, 'queued'))
}

/** Who waits in one pool. */
export async function queuedIn(db: Db, tenant: string, pool: string): Promise<QueuedRow[]> {
  return db.select(QUEUED).from(runs).where(and(eq(runs.state, 'queued'), eq(runs.tenant, tenant), eq(runs.pool, pool)))
}

const COLUMNS = getTableColumns(runs)
const asRun = mapped(COLUMNS)
const NAMES = Object.values(COLUMNS).map(({ name }) => name)

type Leased = { run: string; fence: number; now: number }
const isLeased = (given: Given<Pick<Leased, 'run' | 'fence'>>) => sql`id = ${given('run')} AND fence = ${given('fence')} AND state = 'leased'`

const leased = compiled<Leased & { cwd: string }>(
  (given) => sql`
    UPDATE ${runs} SET state = 'leased', started_at = ${given('now')}, cwd = ${given('cwd')}
    WHERE id = ${given('run')} AND fence = ${given('fence')} AND state = 'offered'
    RETURNING ${sql.join(NAMES.map((name) => sql.identifier(name)), sql`, `)}`,
)

const bound = compiled<Leased & { cwd: string; cliId: string | null }>((given) => {
  // A run that opens its session may have been elsewhere before, where it never began.
  const opens = sql`(${sessions}.runner IS NULL OR EXISTS (SELECT 1 FROM ${runs} WHERE ${isLeased(given)} AND spec ->> '$.session.mode' <> 'resume'))`
  const now = given('now')
  return sql`
    INSERT INTO ${sessions} (id, tenant, runner, cwd, cli_id, model, created_at, updated_at, last_run_at)
    SELECT session, tenant, runner, ${given('cwd')}, ${given('cliId')}, model, ${now}, ${now}, ${now} FROM ${runs} WHERE ${isLeased(given)}
    ON CONFLICT (id) DO UPDATE SET
      last_run_at = excluded.last_run_at, updated_at = excluded.updated_at, model = coalesce(${sessions}.model, excluded.model),
      cwd = CASE WHEN ${opens} THEN excluded.cwd ELSE ${sessions}.cwd END,
      cli_id = CASE WHEN ${opens} THEN excluded.cli_id ELSE ${sessions}.cli_id END,
      runner = CASE WHEN ${opens} THEN excluded.runner ELSE ${sessions}.runner END`
})

/** One that was prepared was told of when it was made; what is told twice in the same millisecond is told once. */
const sessionMade = compiled<Leased>((given) =>
  sessionNotice(sql`its.created_at = ${given('now')} AND its.id = (SELECT session FROM ${runs} WHERE ${isLeased(given)})`, 'session.created', given('now')),
)

/** As the JSON that it is in the spec: as text, a lone surrogate is no UTF-8, and reading that back aborts the process of libSQL. */
const asked = compiled<Leased>(
  (given) => sql`
    INSERT INTO ${prompts} (run, session, text) SELECT id, session, spec -> '$.prompt' FROM ${runs} WHERE ${isLeased(given)} AND spec IS NOT NULL
    ON CONFLICT (run) DO NOTHING`,
)

const runStarted = runNotice<{ fence: number }>((given) => sql`fence = ${given('fence')} AND state = 'leased'`)

/**
 * The lease, the session that it binds to this runner, and what was asked become durable together. Undefined: overtaken.
 */
export async function lease(store: Store, run: string, fence: number, { cwd, cliId }: Home, now: number): Promise<RunRow | undefined> {
  const { db } = store
  const its = { run, fence, now, cwd, cliId: cliId ?? null }
  const moved = db.all(leased(its))
  const beside = [bound(its), sessionMade(its), asked(its), runStarted({ ...its, event: 'run.started' })]
  const [rows] = await store.batch([moved, ...beside.map((one) => db.run(one))] as Statement[])
  const [row] = rows as Record<string, unknown>[]
  return row && asRun(NAMES.map((name) => row[name]))
}

const oneRun = prepared((db) => db.select().from(runs).where(and(eq(runs.id, sql.placeholder('id')), eq(runs.tenant, sql.placeholder('tenant')))).limit(1).prepare())

export async function findRun(db: Db, tenant: string, id: string): Promise<RunRow | undefined> {
  const [row] = await oneRun(db).values({ id, tenant })
  return row && asRun(row)
}

const runningAt = prepared((db) =>
  db
    .select({ id: runs.id })
    .from(runs)
    .where(and(eq(runs.id, sql.placeholder('id')), eq(runs.fence, sql.placeholder('fence')), eq(runs.state, 'running'), isNull(runs.endedAt)))
    .prepare(),
)

/** It has begun under this fence and has not ended: from here on only its ending changes either. */
export async function isUnderWay(db: Db, id: string, fence: number): Promise<boolean> {
  const rows = await runningAt(db).all({ id, fence })
  return rows.length === 1
}

/** A turn of the session is under way or waiting for a slot. */
export async function sessionHasTurn(db: Db, session: string): Promise<boolean> {
  const rows = await db.select({ id: runs.id }).from(runs).where(and(eq(runs.session, session), isNull(runs.endedAt))).limit(1)
  return rows.length === 1
}

/** The wish to end a run; it decides the ending. False: the run has ended. */
export async function requestCancel(db: Db, tenant: string, id: string, now: number): Promise<boolean> {
  const rows = await db
    .update(runs)
    .set({ cancelRequestedAt: sql`coalesce(${runs.cancelRequestedAt}, ${now})` })
    .where(and(eq(runs.id, id), eq(runs.tenant, tenant), isNull(runs.endedAt)))
    .returning({ id: runs.id })
  return rows.length === 1
}

/** While it waits. What is being offered may come back into the line. False: it was changed since, or waits no more. */
export async function movePriority(db: Db, { id, priority }: Pick<RunRow, 'id' | 'priority'>, to: number): Promise<boolean> {
  const rows = await db
    .update(runs)
    .set({ priority: to })
    .where(and(eq(runs.id, id), eq(runs.priority, priority), inArray(runs.state, ['queued', 'offered'])))
    .returning({ id: runs.id })
  return rows.length === 1
}

/** What a runner must bring back after the router restarted. */
export async function liveRunsOf(db: Db, runner: string): Promise<RunRow[]> {
  return db.select().from(runs).where(and(eq(runs.runner, runner), isNull(runs.endedAt), inArray(runs.state, ['leased', 'running'])))
}

/** Live runs that are to end when nobody watches them. */
export async function unwatchedRuns(db: Db): Promise<Pick<RunRow, 'id' | 'tenant' | 'onDisconnectMs'>[]> {
  return db.select({ id: runs.id, tenant: runs.tenant, onDisconnectMs: runs.onDisconnectMs }).from(runs).where(and(isNull(runs.endedAt), isNotNull(runs.onDisconnectMs)))
}

/** Turns under way, by run: their sessions take no other one. */
export async function turnsUnderWay(db: Db): Promise<Pick<RunRow, 'id' | 'session'>[]> {
  return db.select({ id: runs.id, session: runs.session }).from(runs).where(inArray(runs.state, ['leased', 'running']))
}

/** Runners that hold live runs, connected or not. */
export async function runnersWithLiveRuns(db: Db): Promise<string[]> {
  const rows = await db.selectDistinct({ runner: runs.runner }).from(runs).where(isNull(runs.endedAt))
  return rows.flatMap((r) => (r.runner === null ? [] : [r.runner]))
}

/** Pools with runs that should have left the line, or an offer, before then. */
export async function overduePools(db: Db, before: number): Promise<Pick<RunRow, 'tenant' | 'pool'>[]> {
  return db
    .selectDistinct({ tenant: runs.tenant, pool: runs.pool })
    .from(runs)
    .where(and(inArray(runs.state, ['queued', 'offered']), lt(runs.queueUntil, before)))
    .limit(OVERDUE_PAGE)
}

/** Runs that should have ended before then. */
export async function overdueRuns(db: Db, before: number): Promise<Pick<RunRow, 'id' | 'tenant' | 'runner' | 'fence'>[]> {
  return db
    .select({ id: runs.id, tenant: runs.tenant, runner: runs.runner, fence: runs.fence })
    .from(runs)
    .where(and(inArray(runs.state, ['leased', 'running']), sql`started_at + timeout_s * 1000 < ${before}`))
    .limit(OVERDUE_PAGE)
}

const OVERDUE_PAGE = 100
