/** What only ccs asks of the rows of runs and sessions: its tasks, its streams, its projects. */
import { and, desc, eq, inArray, isNull, ne, sql, type SQL } from 'drizzle-orm'
import { prompts, runs, sessions } from '../../../drizzle/schema.ts'
import { isTerminal } from '../../core/run-state.ts'
import type { Db, RunRow, RunState, Store } from '../../ports.ts'
import { sumOfUsd } from '../../store/money.ts'
import { ofTenant } from '../../store/session-pages.ts'

// As the index of tasks says it: no row has to be looked at to know.
const isTask = sql`task = 1`

/** By priority, then age. Undefined: whatever their state. */
export function listTasks(db: Db, tenant: string, states: readonly RunState[] | undefined, limit: number): Promise<RunRow[]> {
  // As `ofTenant` says it, SQLite looks at all that lives, which is little, and not at all tasks that there ever were.
  const live = states?.every((state) => !isTerminal(state)) ? and(ofTenant(tenant), isNull(runs.endedAt)) : eq(runs.tenant, tenant)
  return db
    .select()
    .from(runs)
    .where(and(live, isTask, states && inArray(runs.state, [...states])))
    .orderBy(desc(runs.priority), runs.id)
    .limit(limit)
}

/** How many tasks there are in each state, and what they cost. States that none is in are not there. */
export function countTasks(store: Store, tenant: string): Promise<{ state: RunState; count: number; usd: number }[]> {
  const query = sql`
    SELECT state AS "state", count(*) AS "count", ${sumOfUsd(sql`cost_usd`)} AS "usd" FROM ${runs} WHERE tenant = ${tenant} AND ${isTask} GROUP BY state`
  return store.heavy(query, tenant)
}

/** What was asked of these runs, as far as it is kept; those that wait have it in their spec. */
export async function promptsOf(db: Db, rows: readonly RunRow[]): Promise<Map<string, string>> {
  const asked = rows.flatMap(({ id, spec }): [string, string][] => (spec ? [[id, spec.prompt]] : []))
  const others = rows.filter(({ spec }) => !spec).map(({ id }) => id)
  // One parameter: D1 takes a hundred of them.
  const kept = others.length === 0 ? [] : await db.select().from(prompts).where(sql`${prompts.run} IN (SELECT value FROM json_each(${JSON.stringify(others)}))`)
  return new Map([...asked, ...kept.map(({ run, text }): [string, string] => [run, text])])
}

/** Runs that are looked through for what their id ends with. */
const NEWEST = 1_000

/** Runs whose id ends with these 16 digits, among the newest of one session, or of all. At most two: enough to know that it is not one. */
export function runsEnding(db: Db, tenant: string, digits: string, session?: string): Promise<RunRow[]> {
  const its = session === undefined ? eq(runs.tenant, tenant) : and(eq(runs.session, session), ofTenant(tenant))
  const newest = db.select({ id: runs.id }).from(runs).where(its).orderBy(desc(runs.id)).limit(NEWEST).as('newest')
  return db.select().from(runs).where(inArray(runs.id, db.select({ id: newest.id }).from(newest).where(sql`substr(${newest.id}, -16) = ${digits}`))).limit(2)
}

/** The newest runs of a session; `live`: of those that have not ended. */
export function newestRuns(db: Db, tenant: string, session: string, { live, limit }: { live: boolean; limit: number }): Promise<RunRow[]> {
  const its = and(eq(runs.session, session), ofTenant(tenant), live ? isNull(runs.endedAt) : undefined)
  return db.select().from(runs).where(its).orderBy(desc(runs.id)).limit(limit)
}

/** What all other runs of its session have cost. */
export async function costBeside(db: Db, { id, tenant, session }: Pick<RunRow, 'id' | 'tenant' | 'session'>): Promise<number> {
  const usd = sumOfUsd(sql`${runs.costUsd}`)
  const [sum] = await db.select({ usd }).from(runs).where(and(eq(runs.session, session), ofTenant(tenant), ne(runs.id, id)))
  return sum?.usd ?? 0
}

export const PROJECT_ORDERS = ['last_activity', 'total_cost', 'session_count', 'messages_count'] as const
export interface ProjectRow {
  readonly path: string
  readonly sessions: number
  readonly messages: number
  readonly usd: number
  readonly last: number
}

/** Directories that sessions live in. */
export function readProjects(store: Store, tenant: string, { by, ascending, limit }: { by: (typeof PROJECT_ORDERS)[number]; ascending: boolean; limit: number }): Promise<ProjectRow[]> {
  const columns = { last_activity: 'last', total_cost: 'usd', session_count: 'sessions', messages_count: 'messages' } as const
  const order = sql`${sql.identifier(columns[by])} ${sql.raw(ascending ? 'ASC' : 'DESC')}`
  return store.heavy<ProjectRow>(sql`SELECT its.cwd AS "path", ${SUMS} ${fromSessions(tenant)} GROUP BY its.cwd ORDER BY ${order}, its.cwd LIMIT ${limit}`, tenant)
}

/** The same, of all of them together. */
export async function sumProjects(store: Store, tenant: string): Promise<Omit<ProjectRow, 'path'> & { projects: number }> {
  const query = sql`SELECT count(DISTINCT its.cwd) AS "projects", ${SUMS} ${fromSessions(tenant)}`
  const [row] = await store.heavy<Omit<ProjectRow, 'path'> & { projects: number }>(query, tenant)
  return row!
}

export async function sessionsIn(db: Db, tenant: string, cwd: string): Promise<string[]> {
  const rows = await db.select({ id: sessions.id }).from(sessions).where(and(eq(sessions.tenant, tenant), eq(sessions.cwd, cwd)))
  return rows.map(({ id }) => id)
}

/** A run is one message from its lease on, and two once it has ended: as the messages of a session are counted. */
const SUMS = sql`count(DISTINCT its.id) AS "sessions", ${sumOfUsd(sql`r.cost_usd`)} AS "usd", max(its.last_run_at) AS "last",
  coalesce(sum(CASE WHEN r.started_at IS NOT NULL AND r.state NOT IN ('queued', 'offered') THEN 1 + (r.ended_at IS NOT NULL) ELSE 0 END), 0) AS "messages"`
const fromSessions = (tenant: string): SQL => sql`
  FROM ${sessions} AS its LEFT JOIN ${runs} AS r ON r.session = its.id AND +r.tenant = its.tenant WHERE its.tenant = ${tenant} AND its.cwd IS NOT NULL`
