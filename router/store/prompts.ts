/**
 * The turns of a session: its runs from their lease on, with what was asked of them, in the order in which they were had.
 *
 * That is not the order in which they were submitted: of two that waited, the one with the higher priority went first.
 */
import { and, asc, desc, eq, getTableColumns, sql } from 'drizzle-orm'
import { prompts, runs } from '../../drizzle/schema.ts'
import type { Db, RunRow } from '../ports.ts'
import { isSpoken, ofTenant } from './session-pages.ts'

/** `prompt` is null where it is not kept. */
export interface TurnRow {
  readonly run: RunRow
  readonly prompt: string | null
}

/** A place between turns: this one is the first that counts, or the last. */
export interface TurnPlace {
  readonly startedAt: number
  readonly run: string
}

export interface TurnFilter {
  readonly from?: TurnPlace | undefined
  readonly to?: TurnPlace | undefined
  readonly order: 'asc' | 'desc'
  readonly limit: number
}

const { spec: _spec, ...columns } = getTableColumns(runs)

export async function turnsOf(db: Db, tenant: string, session: string, { from, to, order, limit }: TurnFilter): Promise<TurnRow[]> {
  const turn = order === 'asc' ? asc : desc
  const at = sql`(${runs.startedAt}, ${runs.id})`
  const rows = await db
    .select({ run: columns, prompt: prompts.text })
    .from(runs)
    .leftJoin(prompts, eq(prompts.run, runs.id))
    .where(
      and(
        eq(runs.session, session),
        ofTenant(tenant),
        isSpoken,
        from && sql`${at} >= (${from.startedAt}, ${from.run})`,
        to && sql`${at} <= (${to.startedAt}, ${to.run})`,
      ),
    )
    .orderBy(turn(runs.startedAt), turn(runs.id))
    .limit(limit)
  return rows.map(({ run, prompt }) => ({ run: { ...run, spec: null }, prompt }))
}

/** Where this turn is in its session; undefined when it is none of its. */
export async function placeOfTurn(db: Db, tenant: string, session: string, run: string): Promise<TurnPlace | undefined> {
  const [row] = await db
    .select({ startedAt: runs.startedAt })
    .from(runs)
    .where(and(eq(runs.id, run), eq(runs.session, session), eq(runs.tenant, tenant), isSpoken))
    .limit(1)
  const startedAt = row?.startedAt ?? undefined
  return startedAt === undefined ? undefined : { startedAt, run }
}
