/**
 * The ledger: what was spent and what is held of each allowance, and what each run holds until it has ended.
 *
 * To take room, to settle and to give back is one atomic batch each, so an allowance is never overdrawn and nothing is
 * charged twice, whoever else does the same at this moment. An allowance comes into being when it is limited for the first
 * time, with what its runs have cost by then; from then on every run that ends is charged to those there are. So a row that
 * nobody holds anything of can be thrown away: it is made anew from the runs.
 */
import { and, eq, like, lt, or, sql, type SQL } from 'drizzle-orm'
import { allowances, reservations, runs } from '../../drizzle/schema.ts'
import { allowanceId, dayOf, toMicros, type AllowanceKind, type Spender, type Want } from '../core/budget.ts'
import type { Append } from '../core/runner-core.ts'
import type { Db, Statement, Store } from '../ports.ts'
import { compiled, type Given, type Values } from './prepared.ts'

export type AllowanceRow = typeof allowances.$inferSelect
/** Whose run it is; its token has not been used before `tokenSince`. */
export type Holder = Spender & { readonly tokenSince: number }
export type Full = { readonly want: Want; readonly spent: number; readonly held: number }

/** A reservation whose run was never written belonged to somebody who died in between. */
const ORPHAN_MS = 10 * 60_000
/** Settled reservations, and allowances of days, sessions and tokens, are kept this long after their last change. */
const KEEP_MS = 35 * 86_400_000
const PAGE = 200
/** A run costs about this much at least. What reserved next to nothing would let any number of them in. */
const FLOOR_MICROS = 10_000

type UsdKind = Exclude<AllowanceKind, 'runs'>
/** Whose run it is, as statements ask for it. Ids of runs sort by age, so what is too old is not even looked at. */
type Spending = Pick<Holder, 'tenant' | 'token' | 'session'> & { midnight: number; firstToday: string; firstOfToken: string }

function spendingOf({ tenant, token, session, createdAt, tokenSince }: Holder): Spending {
  const midnight = Date.parse(`${dayOf(createdAt)}T00:00:00Z`)
  return { tenant, token, session, midnight, firstToday: firstRunAt(midnight), firstOfToken: firstRunAt(tokenSince) }
}

/** A minute for clocks that differ. */
const firstRunAt = (at: number) => `run_${Math.max(0, Math.floor(at) - 60_000).toString(16).padStart(12, '0')}`

const isToday = (given: Given<Spending>) => sql`id >= ${given('firstToday')} AND created_at >= ${given('midnight')}`
const ITS_RUNS: Record<UsdKind, (given: Given<Spending>) => SQL> = {
  tenant: () => sql`TRUE`,
  day: isToday,
  token: (given) => sql`token = ${given('token')} AND id >= ${given('firstOfToken')}`,
  token_day: (given) => sql`token = ${given('token')} AND ${isToday(given)}`,
  session: (given) => sql`session = ${given('session')}`,
}

/** More than this could not be read any more. */
const MOST = sql.raw(String(Number.MAX_SAFE_INTEGER))

/** What its runs have cost, for an allowance that nobody has counted by now. Those of a session are found by its own index. */
const spentByRuns = (kind: UsdKind, given: Given<Spending>): SQL => sql`(
  SELECT CAST(min(total(min(round(cost_usd * 1000000), ${MOST})), ${MOST}) AS INTEGER) FROM ${runs}
  WHERE ${kind === 'session' ? sql`+tenant` : sql`tenant`} = ${given('tenant')} AND ended_at IS NOT NULL AND ${ITS_RUNS[kind](given)})`

type Opened = { allowance: string; tenant: string; now: number }
const isNew = (given: Given<Opened>) => sql`NOT EXISTS (SELECT 1 FROM ${allowances} WHERE id = ${given('allowance')})`

const openedUsd = (kind: UsdKind) =>
  compiled<Opened & Spending>(
    (given) => sql`
      INSERT INTO ${allowances} (id, tenant, spent, held, updated_at)
      SELECT ${given('allowance')}, ${given('tenant')}, ${spentByRuns(kind, given)}, 0, ${given('now')} WHERE ${isNew(given)}`,
  )

/** Those that are under way hold their place as if they had reserved it. Looked for only where it is new: a tenant has any number of runs. */
const heldByLive = compiled<Opened>(
  (given) => sql`
    INSERT INTO ${reservations} (run, allowance, tenant, unit, amount, created_at)
    SELECT its.id, ${given('allowance')}, its.tenant, 'run', 1, ${given('now')} FROM (SELECT 1 WHERE ${isNew(given)}) CROSS JOIN ${runs} AS its
    WHERE its.tenant = ${given('tenant')} AND its.ended_at IS NULL
    ON CONFLICT (run, allowance) DO NOTHING`,
)
const openedRuns = compiled<Opened>(
  (given) => sql`
    INSERT INTO ${allowances} (id, tenant, spent, held, updated_at)
    SELECT ${given('allowance')}, ${given('tenant')}, 0, (SELECT count(*) FROM ${reservations} WHERE allowance = ${given('allowance')} AND settled_at IS NULL), ${given('now')}
    WHERE ${isNew(given)}`,
)

/** The row of an allowance that is limited for the first time, or again after a long while. */
const OPEN: Record<AllowanceKind, readonly ((values: Opened & Spending) => SQL)[]> = {
  tenant: [openedUsd('tenant')],
  day: [openedUsd('day')],
  token: [openedUsd('token')],
  token_day: [openedUsd('token_day')],
  session: [openedUsd('session')],
  runs: [heldByLive, openedRuns],
}

const WANTED = ['allowance', 'unit', 'amount', 'limit'] as const
type Taken = { run: string; tenant: string; now: number } & Record<`${(typeof WANTED)[number]}${number}`, string | number>

/** Never as one text of JSON: what SQLite reads out of that need not be UTF-8, and reading it back aborts the process of libSQL. */
const roomTaken = (count: number) =>
  compiled<Taken>((given) => {
    const rows = Array.from({ length: count }, (_, i) => sql`(${sql.join(WANTED.map((name) => given(`${name}${i}`)), sql`, `)})`)
    return sql`
      WITH want(allowance, unit, amount, lim) AS (VALUES ${sql.join(rows, sql`, `)}),
        room(micros) AS (
          SELECT min(w.lim - a.spent - a.held) FROM want AS w JOIN ${allowances} AS a ON a.id = w.allowance WHERE w.unit = 'usd')
      INSERT INTO ${reservations} (run, allowance, tenant, unit, amount, limit_then, created_at)
      SELECT ${given('run')}, allowance, ${given('tenant')}, unit,
        CASE unit WHEN 'usd' THEN max(amount, min(${FLOOR_MICROS}, (SELECT micros FROM room))) ELSE amount END,
        lim, ${given('now')} FROM want
      WHERE NOT EXISTS (
        SELECT 1 FROM want AS w JOIN ${allowances} AS a ON a.id = w.allowance WHERE a.spent + a.held + w.amount > w.lim)
      ON CONFLICT (run, allowance) DO NOTHING
      RETURNING allowance`
  })

/** By the number of wants, which is that of the kinds at most. */
const TAKE: ReturnType<typeof roomTaken>[] = []

function takeRoom(wants: readonly Want[], its: { run: string; tenant: string; now: number }): SQL {
  const take = (TAKE[wants.length] ??= roomTaken(wants.length))
  return take({ ...its, ...Object.fromEntries(wants.flatMap((want, i) => WANTED.map((name) => [`${name}${i}`, want[name]]))) })
}

const roomHeld = compiled<{ run: string; now: number }>(
  (given) => sql`
    UPDATE ${allowances} SET updated_at = ${given('now')},
      held = held + (SELECT amount FROM ${reservations} WHERE run = ${given('run')} AND allowance = ${allowances}.id)
    WHERE id IN (SELECT allowance FROM ${reservations} WHERE run = ${given('run')} AND settled_at IS NULL)`,
)

const unusedDropped = compiled<{ allowance: string }>((given) => sql`DELETE FROM ${allowances} WHERE id = ${given('allowance')} AND spent = 0 AND held = 0`)

/** True: every one of `wants` had room, and it is held now. False: nothing was changed. */
export async function reserve(store: Store, run: string, by: Holder, wants: readonly Want[], now: number): Promise<boolean> {
  const { db } = store
  const its = { ...spendingOf(by), run, now }
  const opened = wants.flatMap(({ kind, allowance }) => OPEN[kind].map((open) => open({ ...its, allowance })))
  // One for each session and token that was ever refused would be a lot of nothing.
  const personal = wants.filter(({ kind }) => kind === 'session' || kind === 'token' || kind === 'token_day')
  const results = await store.batch([
    ...opened.map((one) => db.run(one)),
    db.all(takeRoom(wants, its)),
    db.run(roomHeld(its)),
    ...personal.map(({ allowance }) => db.run(unusedDropped({ allowance }))),
  ] as Statement[])
  return (results[opened.length] as unknown[]).length === wants.length
}

const spentNow = (kind: UsdKind) => compiled<Spending>((given) => sql`SELECT ${spentByRuns(kind, given)} AS "spent"`)
const SPENT: Record<UsdKind, ReturnType<typeof spentNow>> = {
  tenant: spentNow('tenant'),
  day: spentNow('day'),
  token: spentNow('token'),
  token_day: spentNow('token_day'),
  session: spentNow('session'),
}

/** What is used of money now, whether or not it has been limited before. */
export async function usedOf(db: Db, { kind, allowance }: { kind: UsdKind; allowance: string }, by: Holder): Promise<Pick<AllowanceRow, 'spent' | 'held'>> {
  const [row] = await db.select().from(allowances).where(eq(allowances.id, allowance)).limit(1)
  if (row) return row
  const [made] = await db.all<{ spent: number }>(SPENT[kind](spendingOf(by)))
  return { spent: made?.spent ?? 0, held: 0 }
}

/** Why there was no room: the first of `wants` that is too much as things stand now. Undefined: there would be room by now. */
export async function whatIsFull(db: Db, wants: readonly Want[]): Promise<Full | undefined> {
  for (const want of wants) {
    const [row] = await db.select().from(allowances).where(eq(allowances.id, want.allowance)).limit(1)
    const { spent, held } = row ?? { spent: 0, held: 0 }
    if (spent + held + want.amount > want.limit) return { want, spent, held }
  }
  return undefined
}

/** A budget of a run that waits: all of it has been spent meanwhile. */
const isSpent = (run: unknown) => sql`
  FROM ${reservations} AS mine JOIN ${allowances} AS its ON its.id = mine.allowance
  WHERE mine.run = ${run} AND mine.settled_at IS NULL AND mine.unit = 'usd' AND its.spent >= mine.limit_then`

/** A condition of whoever lets a run begin that has waited: those before it may have cost more than they had reserved. */
export const hasBudgetLeft = (run: unknown): SQL => sql`NOT EXISTS (SELECT 1 ${isSpent(run)})`

/** The first budget of this run that is spent, with its limit; undefined: it may begin. */
export async function spentBudget(db: Db, run: string): Promise<{ id: string; limit: number; spent: number; held: number } | undefined> {
  return (await db.all<{ id: string; limit: number; spent: number; held: number }>(sql`
    SELECT its.id AS "id", mine.limit_then AS "limit", its.spent AS "spent", its.held AS "held" ${isSpent(run)} LIMIT 1`))[0]
}

export type Charge = { readonly micros: number; readonly isLeast: boolean }

/** `usd` undefined: nobody knows. */
export function chargeOf(usd: number | undefined, isLeast: boolean): Charge {
  return usd === undefined ? { micros: 0, isLeast: true } : { micros: toMicros(usd), isLeast }
}

type Settled = Charge & { run: string; now: number }

/**
 * What belongs in front of the statements that end a run, in their batch: its cost is charged to every allowance it falls
 * under, and what it held is free. `alive` is the condition of those statements on the run's row, which makes it happen
 * once. `isLeast`: it cost `micros` or more, so what it had reserved stands for its cost where that is more, in its row too.
 */
export function settling<More extends Values>(alive: (given: Given<More>) => SQL): (db: Db, values: Settled & More) => Statement[] {
  type All = Settled & More
  const its = (given: Given<All>) => sql`SELECT * FROM ${runs} WHERE id = ${given('run')} AND ${alive(given)}`
  const isLeast = (given: Given<All>) => sql.param(given('isLeast'), reservations.estimated)
  const atLeast = (given: Given<All>, held: SQL) => sql`iif(${isLeast(given)}, max(${given('micros')}, ${held}), ${given('micros')})`
  const reserved = (given: Given<All>) => sql`(SELECT amount FROM ${reservations} WHERE run = ${given('run')} AND unit = 'usd' AND settled_at IS NULL LIMIT 1)`
  const cost = (given: Given<All>) => atLeast(given, sql`coalesce(${reserved(given)}, 0)`)
  const day = sql`strftime('%Y-%m-%d', created_at / 1000, 'unixepoch')`
  const charged = compiled<All>(
    (given) => sql`
      WITH its AS (${its(given)}),
        cost(charge) AS (SELECT ${cost(given)}),
        open AS (
          SELECT allowance, amount FROM ${reservations} WHERE run = ${given('run')} AND settled_at IS NULL AND EXISTS (SELECT 1 FROM its)),
        due(id, charge) AS (
          SELECT tenant || '/usd', charge FROM its, cost UNION ALL
          SELECT tenant || '/usd/day/' || ${day}, charge FROM its, cost UNION ALL
          SELECT tenant || '/usd/session/' || session, charge FROM its, cost UNION ALL
          SELECT tenant || '/usd/token/' || token, charge FROM its, cost UNION ALL
          SELECT tenant || '/usd/token-day/' || ${day} || '/' || token, charge FROM its, cost)
      UPDATE ${allowances} SET updated_at = ${given('now')},
        spent = min(${MOST}, spent + coalesce((SELECT charge FROM due WHERE due.id = ${allowances}.id), 0)),
        held = held - coalesce((SELECT amount FROM open WHERE open.allowance = ${allowances}.id), 0)
      WHERE id IN (SELECT id FROM due UNION ALL SELECT allowance FROM open)`,
  )
  const estimated = compiled<All>(
    (given) => sql`
      UPDATE ${runs} SET cost_usd = ${cost(given)} / 1000000.0, cost_estimated = 1
      WHERE id = ${given('run')} AND ${alive(given)} AND ${reserved(given)} IS NOT NULL`,
  )
  const closed = compiled<All>(
    (given) => sql`
      UPDATE ${reservations} SET settled_at = ${given('now')},
        charged = CASE unit WHEN 'usd' THEN ${atLeast(given, sql`amount`)} ELSE 0 END,
        estimated = CASE unit WHEN 'usd' THEN ${isLeast(given)} ELSE 0 END
      WHERE run = ${given('run')} AND settled_at IS NULL AND EXISTS (${its(given)})`,
  )
  return (db, values) => {
    const steps = values.isLeast ? [charged, estimated, closed] : [charged, closed]
    return steps.map((step) => db.run(step(values)) as Statement)
  }
}

const settleFenced = settling<{ fence: number }>((given) => sql`fence = ${given('fence')} AND ended_at IS NULL`)

/** The same for an append, if it is one that ends its run; where runs and ledger are in one database. */
export function settleEnding(db: Db, { run, fence, ending }: Append, now: number): Statement[] {
  if (!ending) return []
  return settleFenced(db, { run, fence, now, ...chargeOf(ending.costUsd, ending.costIsLeast ?? false) })
}

/** Gives back what a run holds that has no row: nothing of it was ever started. Behind the statement that deletes the row. */
export function releaseStatements(db: Db, run: string): Statement[] {
  const open = sql`run = ${run} AND settled_at IS NULL AND NOT EXISTS (SELECT 1 FROM ${runs} WHERE id = ${run})`
  const freed = db.run(sql`
    UPDATE ${allowances} SET
      held = held - (SELECT amount FROM ${reservations} WHERE run = ${run} AND allowance = ${allowances}.id)
    WHERE id IN (SELECT allowance FROM ${reservations} WHERE ${open})`)
  const emptied = db.run(sql`
    DELETE FROM ${allowances} WHERE spent = 0 AND held = 0 AND (id LIKE '%/usd/session/%' OR id LIKE '%/usd/token%')
      AND id IN (SELECT allowance FROM ${reservations} WHERE ${open})`)
  const dropped = db.run(sql`DELETE FROM ${reservations} WHERE ${open}`)
  return [freed, emptied, dropped] as Statement[]
}

/** What is held for nobody, and what need not be kept any more. A bounded piece of work; call it now and then. */
export async function sweepLedger(store: Store, now: number): Promise<void> {
  const { db } = store
  // Without the name of the index the planner goes through all that were ever settled.
  const orphans = await db.all<{ run: string }>(sql`
    SELECT DISTINCT run AS "run" FROM ${reservations} INDEXED BY reservations_open
    WHERE settled_at IS NULL AND created_at < ${now - ORPHAN_MS} AND NOT EXISTS (SELECT 1 FROM ${runs} WHERE id = ${reservations}.run)
    LIMIT ${PAGE}`)
  for (const { run } of orphans) await store.batch(releaseStatements(db, run))
  await db.delete(reservations).where(lt(reservations.settledAt, now - KEEP_MS))
  // All but those of whole tenants, which are two and used by every run.
  const mayGo = and(like(allowances.id, '%/usd/%'), eq(allowances.held, 0), lt(allowances.updatedAt, now - KEEP_MS))
  await db.delete(allowances).where(mayGo)
}

/** The allowances that count for everybody of a tenant now: all of it, today, and how many runs there are. */
export async function currentAllowances(db: Db, tenant: string, now: number): Promise<AllowanceRow[]> {
  const by = { tenant, token: '', session: '', createdAt: now }
  const ids = (['tenant', 'day', 'runs'] as const).map((kind) => eq(allowances.id, allowanceId(kind, by)))
  return db.select().from(allowances).where(or(...ids)).orderBy(allowances.id)
}
