/**
 * Statistics, summed up from the rows of runs that have ended. Nothing is counted beside them, so nothing can differ from
 * them. They read all these rows, so none of it is asked of the connection that everybody shares.
 */
import { sql, type SQL } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import type { RunState, Store } from '../ports.ts'
import { dollars, NANOS, nanosOf, sumOfUsd } from './money.ts'

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

/**
 * A day is one of UTC, the day on which a run ended; a project is the real directory that it worked in. A model goes by its
 * name alone: the CLI says `name[1m]` in the first turn of a session and `name` in those that continue it.
 */
const KEYS = {
  day: sql`strftime('%Y-%m-%d', ended_at / 1000, 'unixepoch')`,
  model: sql`CASE WHEN model GLOB '?*[[]*]' THEN substr(model, 1, instr(model, '[') - 1) ELSE model END`,
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

/** What can be added up once more. `failed` has those that were lost; `estimated` is how many have a cost that nobody counted. */
export interface UsageParts {
  /** A day is `2026-11-21`, of UTC. Null: nobody knows, as of the directory of a run that never started. */
  readonly key: string | null
  readonly runs: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cache_creation_input_tokens: number
  readonly cache_read_input_tokens: number
  /** Exact to a billionth of a dollar per run. */
  readonly cost_usd: number
  readonly estimated: number
  readonly duration_ms: number
  /** Milliseconds since 1970; null where there is no run. */
  readonly last_ended_at: number | null
}
export interface UsageSums extends UsageParts {
  /** Different ones. */
  readonly sessions: number
}

/** More than this could not be read any more. */
const MOST = sql.raw(String(Number.MAX_SAFE_INTEGER))
const count = (condition: SQL) => sql`coalesce(sum(${condition}), 0)`
const total = (value: SQL) => sql`min(coalesce(sum(${value}), 0), ${MOST})`
const tokens = (name: string) => total(sql`coalesce(json_extract(usage, ${sql.raw(`'$.${name}'`)}), 0)`)

const COUNTS = sql`count(*) AS "runs",
  ${count(sql`state = 'succeeded'`)} AS "succeeded",
  ${count(sql`state IN ('failed', 'lost')`)} AS "failed",
  ${count(sql`state = 'cancelled'`)} AS "cancelled",
  ${tokens('input_tokens')} AS "input_tokens",
  ${tokens('output_tokens')} AS "output_tokens",
  ${tokens('cache_creation_input_tokens')} AS "cache_creation_input_tokens",
  ${tokens('cache_read_input_tokens')} AS "cache_read_input_tokens",
  ${count(sql`coalesce(cost_estimated, 0)`)} AS "estimated",
  ${total(sql`coalesce(duration_ms, 0)`)} AS "duration_ms",
  max(ended_at) AS "last_ended_at"`
const SUMS = sql`${COUNTS}, count(DISTINCT session) AS "sessions", ${sumOfUsd(sql`cost_usd`)} AS "cost_usd"`

/** All of it together; its key is null. */
export async function sumUsage(store: Store, filter: UsageFilter): Promise<UsageSums> {
  const [row] = await store.heavy<UsageSums>(sql`SELECT NULL AS "key", ${SUMS} FROM ${runs} WHERE ${ended(filter)}`, filter.tenant)
  return row!
}

/** One row per key, also for null where nobody knows: a run that never started has no directory. */
export async function sumUsageBy(
  store: Store,
  by: UsageKey,
  filter: UsageFilter,
  { order, ascending, limit }: { order: UsageOrder; ascending: boolean; limit: number },
): Promise<UsageSums[]> {
  const direction = sql.raw(ascending ? 'ASC' : 'DESC')
  const query = sql`
    SELECT ${KEYS[by]} AS "key", ${SUMS} FROM ${runs} WHERE ${ended(filter)}
    GROUP BY 1 ORDER BY ${sql.identifier(order)} ${direction}, "key" LIMIT ${limit}`
  return store.heavy<UsageSums>(query, filter.tenant)
}

export interface Overview {
  readonly whole: UsageParts
  /** The newest days on which a run ended. */
  readonly days: UsageParts[]
  /** The dearest first. */
  readonly models: UsageParts[]
}

/** All of a tenant's runs together, by day and by model, from one look at each of them. */
export async function overviewOfUsage(store: Store, tenant: string, most: { days: number; models: number }): Promise<Overview> {
  const nanos = nanosOf(sql`cost_usd`)
  const cells = sql`SELECT ${KEYS.day} AS "day", ${KEYS.model} AS "model", ${COUNTS},
    ${count(sql`${nanos} / ${NANOS}`)} AS "usd", ${count(sql`${nanos} % ${NANOS}`)} AS "nanos"
    FROM ${runs} WHERE ${ended({ tenant })} GROUP BY 1, 2`
  const part = (name: string, key: SQL) => sql`SELECT ${sql.raw(`'${name}'`)} AS "part", ${key} AS "key", ${ADDED} FROM cells`
  const rows = await store.heavy<UsageParts & { part: string }>(
    sql`WITH cells AS MATERIALIZED (${cells})
      ${part('whole', sql`NULL`)}
      UNION ALL SELECT * FROM (${part('day', sql`"day"`)} GROUP BY "day" ORDER BY "key" DESC LIMIT ${most.days})
      UNION ALL SELECT * FROM (${part('model', sql`"model"`)} GROUP BY "model" ORDER BY "cost_usd" DESC, "key" LIMIT ${most.models})`,
    tenant,
  )
  const of = (name: string) => rows.filter(({ part: its }) => its === name)
  return { whole: of('whole')[0]!, days: of('day'), models: of('model') }
}

const ADDABLE = ['runs', 'succeeded', 'failed', 'cancelled', 'input_tokens', 'output_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens', 'estimated', 'duration_ms']
// A sum of integers that overflows is an error; `total` adds as a float, which is exact up to the most that is told.
const ADDED = sql.join(
  [
    ...ADDABLE.map((name) => sql`CAST(min(total(${sql.identifier(name)}), ${MOST}) AS INTEGER) AS ${sql.identifier(name)}`),
    sql`${dollars(sql`"usd"`, sql`"nanos"`)} AS "cost_usd"`,
    sql`max("last_ended_at") AS "last_ended_at"`,
  ],
  sql`, `,
)

/** How many runs are in each state, those that live included. States that no run is in are not there. */
export async function countStates(store: Store, { tenant, origin }: Pick<UsageFilter, 'tenant' | 'origin'>): Promise<{ state: RunState; count: number }[]> {
  const query = sql`
    SELECT state AS "state", count(*) AS "count" FROM ${runs}
    WHERE ${tenant === undefined ? sql`TRUE` : sql`tenant = ${tenant}`} AND ${origin === undefined ? sql`TRUE` : sql`origin = ${origin}`}
    GROUP BY state`
  return store.heavy(query, tenant)
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
