/**
 * Statistics, summed up from the rows of runs that have ended. Nothing is counted beside them, so nothing can differ from them.
 *
 * Money is added in whole billionths of a dollar: the order of adding does not matter, and every host gets the same sum.
 */
import { sql, type SQL } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import type { Db, RunState } from '../ports.ts'

/** Undefined: whatever it is. Milliseconds since 1970, of the end of a run; `from` belongs to it, `to` does not. */
export interface UsageFilter {
  readonly tenant?: string | undefined
  readonly from?: number | undefined
  readonly to?: number | undefined
  readonly session?: string | undefined
  /** The real directory that it worked in. */
  readonly project?: string | undefined
  readonly origin?: string | undefined
}

/** A day is one of UTC, the day on which a run ended; a project is the real directory that it worked in. */
const KEYS = {
  day: sql`strftime('%Y-%m-%d', ended_at / 1000, 'unixepoch')`,
  model: sql`model`,
  provider: sql`provider`,
  session: sql`session`,
  project: sql`cwd`,
  tenant: sql`tenant`,
  origin: sql`origin`,
} as const satisfies Record<string, SQL>
export const USAGE_KEYS = ['day', 'model', 'provider', 'session', 'project', 'tenant', 'origin'] as const satisfies (keyof typeof KEYS)[]
export type UsageKey = (typeof USAGE_KEYS)[number]

/** What rows are put in order by; `last_ended_at` is when the last run of each ended. */
export const USAGE_ORDERS = ['key', 'runs', 'cost_usd', 'sessions', 'last_ended_at'] as const
export type UsageOrder = (typeof USAGE_ORDERS)[number]

/** As the database adds it up: the money is `usd` + `nanos` / 10⁹. */
export interface UsageSums {
  readonly key: string | null
  readonly runs: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  readonly sessions: number
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cache_creation_input_tokens: number
  readonly cache_read_input_tokens: number
  readonly usd: number
  readonly nanos: number
  readonly estimated: number
  readonly duration_ms: number
  readonly last_ended_at: number | null
}

/** More than this could not be read any more. */
const MOST = sql.raw(String(Number.MAX_SAFE_INTEGER))
const NANOS = sql.raw('1000000000')
const nanos = sql`CAST(round(coalesce(cost_usd, 0) * ${NANOS}) AS INTEGER)`
const count = (condition: SQL) => sql`coalesce(sum(${condition}), 0)`
const total = (value: SQL) => sql`min(coalesce(sum(${value}), 0), ${MOST})`
const tokens = (name: string) => total(sql`coalesce(json_extract(usage, ${sql.raw(`'$.${name}'`)}), 0)`)

const SUMS = sql`count(*) AS "runs",
  ${count(sql`state = 'succeeded'`)} AS "succeeded",
  ${count(sql`state IN ('failed', 'lost')`)} AS "failed",
  ${count(sql`state = 'cancelled'`)} AS "cancelled",
  count(DISTINCT session) AS "sessions",
  ${tokens('input_tokens')} AS "input_tokens",
  ${tokens('output_tokens')} AS "output_tokens",
  ${tokens('cache_creation_input_tokens')} AS "cache_creation_input_tokens",
  ${tokens('cache_read_input_tokens')} AS "cache_read_input_tokens",
  ${count(sql`${nanos} / ${NANOS}`)} + ${count(sql`${nanos} % ${NANOS}`)} / ${NANOS} AS "usd",
  ${count(sql`${nanos} % ${NANOS}`)} % ${NANOS} AS "nanos",
  ${count(sql`coalesce(cost_estimated, 0)`)} AS "estimated",
  ${total(sql`coalesce(duration_ms, 0)`)} AS "duration_ms",
  max(ended_at) AS "last_ended_at"`

/** All of it together; its key is null. */
export async function sumUsage(db: Db, filter: UsageFilter): Promise<UsageSums> {
  const [row] = await db.all<UsageSums>(sql`SELECT NULL AS "key", ${SUMS} FROM ${runs} WHERE ${ended(filter)}`)
  return row!
}

/** One row per key, also for null where nobody knows: a run that never started has no directory. */
export async function sumUsageBy(
  db: Db,
  by: UsageKey,
  filter: UsageFilter,
  { order, ascending, limit }: { order: UsageOrder; ascending: boolean; limit: number },
): Promise<UsageSums[]> {
  const direction = sql.raw(ascending ? 'ASC' : 'DESC')
  const columns = order === 'cost_usd' ? ['usd', 'nanos'] : [order]
  return db.all<UsageSums>(sql`
    SELECT ${KEYS[by]} AS "key", ${SUMS} FROM ${runs} WHERE ${ended(filter)}
    GROUP BY 1 ORDER BY ${sql.join(columns.map((column) => sql`${sql.identifier(column)} ${direction}`), sql`, `)}, "key" LIMIT ${limit}`)
}

/** How many runs are in each state, those that live included. States that no run is in are not there. */
export async function countStates(db: Db, { tenant, origin }: Pick<UsageFilter, 'tenant' | 'origin'>): Promise<{ state: RunState; count: number }[]> {
  return db.all(sql`
    SELECT state AS "state", count(*) AS "count" FROM ${runs}
    WHERE ${tenant === undefined ? sql`TRUE` : sql`tenant = ${tenant}`} AND ${origin === undefined ? sql`TRUE` : sql`origin = ${origin}`}
    GROUP BY state`)
}

function ended({ tenant, from, to, session, project, origin }: UsageFilter): SQL {
  const all = [
    sql`ended_at IS NOT NULL`,
    ...(tenant === undefined ? [] : [sql`tenant = ${tenant}`]),
    ...(from === undefined ? [] : [sql`ended_at >= ${from}`]),
    ...(to === undefined ? [] : [sql`ended_at < ${to}`]),
    ...(session === undefined ? [] : [sql`session = ${session}`]),
    ...(project === undefined ? [] : [sql`cwd = ${project}`]),
    ...(origin === undefined ? [] : [sql`origin = ${origin}`]),
  ]
  return sql.join(all, sql` AND `)
}
