/**
 * Sessions in pages, the one that was used last in front, with what their runs add up to.
 *
 * A cursor is a place in that order and not a session, so it holds although the session that it came from moves or goes.
 * One that is used while somebody pages moves to the front.
 */
import { and, asc, desc, eq, getTableColumns, sql, type SQL } from 'drizzle-orm'
import { prompts, runs, sessions } from '../../drizzle/schema.ts'
import type { Db } from '../ports.ts'
import { sumOfUsd } from './money.ts'
import type { SessionRow } from './sessions.ts'

/** What its runs add up to. `live`: those that wait or are under way. */
export interface Totals {
  readonly runs: number
  readonly live: number
  readonly messages: number
  readonly costUsd: number
}
export const NO_TOTALS: Totals = { runs: 0, live: 0, messages: 0, costUsd: 0 }

export interface Place {
  readonly lastRunAt: number
  readonly id: string
}

export interface SessionFilter {
  readonly status?: SessionRow['status'] | undefined
  readonly cwd?: string | undefined
  /** Only those behind this place, in the order that is asked for. */
  readonly from?: Place | undefined
  readonly order?: 'asc' | 'desc' | undefined
  readonly limit: number
}

export function listSessionRows(db: Db, tenant: string, filter: SessionFilter): Promise<SessionRow[]> {
  return pageQuery(db, tenant, filter, {}).then((rows) => rows.map(({ row }) => row))
}

/**
 * The same, and of each whether it holds `text` in its title, directory, metadata or prompts, or its id begins with it: a
 * search goes page by page, as one that looks at everything at once would hold up the streams beside it.
 */
export function lookThrough(db: Db, tenant: string, filter: SessionFilter, text: string): Promise<{ row: SessionRow; fits: boolean }[]> {
  return pageQuery(db, tenant, filter, { fits: sql<number>`${holds(text)}`.mapWith(Boolean) })
}

function pageQuery<More extends Record<string, SQL>>(db: Db, tenant: string, { status, cwd, from, order = 'desc', limit }: SessionFilter, more: More) {
  const turn = order === 'asc' ? asc : desc
  return db
    .select({ row: getTableColumns(sessions), ...more })
    .from(sessions)
    .where(
      and(
        eq(sessions.tenant, tenant),
        status && eq(sessions.status, status),
        cwd === undefined ? undefined : eq(sessions.cwd, cwd),
        from && sql`(${sessions.lastRunAt}, ${sessions.id}) ${order === 'asc' ? sql`>` : sql`<`} (${from.lastRunAt}, ${from.id})`,
      ),
    )
    .orderBy(turn(sessions.lastRunAt), turn(sessions.id))
    .limit(limit)
}

// With the plus: otherwise SQLite, which knows no statistics, may read all runs of the tenant to find those of a session.
export const ofTenant = (tenant: string): SQL => sql`+${runs.tenant} = ${tenant}`

/** A run shows as messages from its lease on; one that went back into the line waits again. */
export const isSpoken = sql`(${runs.startedAt} IS NOT NULL AND ${runs.state} NOT IN ('queued', 'offered'))`

const MESSAGES = sql<number>`coalesce(sum(CASE WHEN ${isSpoken} THEN 1 + (${runs.endedAt} IS NOT NULL) ELSE 0 END), 0)`
const COST = sumOfUsd(sql`${runs.costUsd}`)

/** Of all these sessions in one query, however many runs they had. */
export async function totalsOf(db: Db, tenant: string, ids: readonly string[]): Promise<Map<string, Totals>> {
  if (ids.length === 0) return new Map()
  const rows = await db
    .select({
      session: runs.session,
      runs: sql<number>`count(*)`,
      live: sql<number>`sum(${runs.endedAt} IS NULL)`,
      messages: MESSAGES,
      costUsd: COST,
    })
    .from(runs)
    // One parameter: D1 takes a hundred of them.
    .where(and(ofTenant(tenant), sql`${runs.session} IN (SELECT value FROM json_each(${JSON.stringify(ids)}))`))
    .groupBy(runs.session)
  return new Map(rows.map(({ session, ...totals }) => [session, totals]))
}

/** Characters of a prompt that are searched, and prompts of a session. */
const SEARCHED_CHARS = 4_096
const SEARCHED_PROMPTS = 50

function holds(text: string): SQL {
  // Not LIKE: D1 takes no pattern of more than 50 bytes. Either knows upper and lower case of ASCII only.
  const at = (value: SQL, part: string) => sql`instr(lower(${value}), lower(${part}))`
  // Prompts are kept as JSON.
  const said = sql`EXISTS (
    SELECT 1 FROM (SELECT substr(text, 1, ${SEARCHED_CHARS}) AS text FROM ${prompts} WHERE session = ${sessions.id} LIMIT ${SEARCHED_PROMPTS}) AS p
    WHERE ${at(sql`p.text`, JSON.stringify(text).slice(1, -1))} > 0)`
  const noted = sql`EXISTS (SELECT 1 FROM json_each(${sessions.metadata}) AS m WHERE ${at(sql`m.value`, text)} > 0)`
  return sql`(${at(sql`coalesce(${sessions.title}, '')`, text)} > 0 OR ${at(sql`coalesce(${sessions.cwd}, '')`, text)} > 0
    OR ${at(sql`${sessions.id}`, text)} = 1 OR ${noted} OR ${said})`
}

/** What the runs of one session add up to, in more detail. */
export interface SessionSums extends Totals {
  readonly succeeded: number
  readonly failed: number
  readonly turns: number
  readonly durationMs: number
  readonly inputTokens: number
  readonly outputTokens: number
  readonly cacheCreationInputTokens: number
  readonly cacheReadInputTokens: number
  readonly firstStartedAt: number | null
  readonly lastEndedAt: number | null
}

export async function sumsOf(db: Db, tenant: string, session: string): Promise<SessionSums> {
  const tokens = (name: string) => sql<number>`coalesce(sum(json_extract(${runs.usage}, ${`$.${name}`})), 0)`
  const [row] = await db
    .select({
      runs: sql<number>`count(*)`,
      live: sql<number>`coalesce(sum(${runs.endedAt} IS NULL), 0)`,
      messages: MESSAGES,
      costUsd: COST,
      succeeded: sql<number>`coalesce(sum(${runs.state} = 'succeeded'), 0)`,
      failed: sql<number>`coalesce(sum(${runs.state} IN ('failed', 'lost')), 0)`,
      turns: sql<number>`coalesce(sum(${runs.numTurns}), 0)`,
      durationMs: sql<number>`coalesce(sum(${runs.durationMs}), 0)`,
      inputTokens: tokens('input_tokens'),
      outputTokens: tokens('output_tokens'),
      cacheCreationInputTokens: tokens('cache_creation_input_tokens'),
      cacheReadInputTokens: tokens('cache_read_input_tokens'),
      firstStartedAt: sql<number | null>`min(${runs.startedAt})`,
      lastEndedAt: sql<number | null>`max(${runs.endedAt})`,
    })
    .from(runs)
    .where(and(ofTenant(tenant), eq(runs.session, session)))
  // A sum always has a row.
  return row!
}
