/** What a tenant has used of its budgets and limits, as the admin API shows it. */
import { readAllowanceId, toUsd, type AllowanceKind } from '../core/budget.ts'
import type { Db } from '../ports.ts'
import { allowancesOf, currentAllowances, type AllowanceRow, type Page } from '../store/allowances.ts'


export type Usage = {
  /** Cursor of pages. */
  readonly id: string
  readonly budget: Exclude<AllowanceKind, 'runs'>
  /** Which token or session. */
  readonly of?: string
  /** `2026-11-21`, of UTC. */
  readonly day?: string
  readonly spent_usd: number
  /** Held by runs that have not ended. */
  readonly reserved_usd: number
}

/** A page of a tenant's budgets by id. Only budgets that were limited at some time are counted, and so are here. */
export async function usageOf(db: Db, tenant: string, page: Page = {}): Promise<Usage[]> {
  return (await allowancesOf(db, tenant, page)).flatMap((row) => viewOf(row) ?? [])
}

/** What of a tenant's own limits is used now. What is not there was never limited. */
export interface CurrentUsage {
  readonly total?: Pick<Usage, 'spent_usd' | 'reserved_usd'>
  /** Of this day, of UTC. */
  readonly day?: Pick<Usage, 'spent_usd' | 'reserved_usd'>
  /** Runs that wait or run. */
  readonly runs?: number
}

export async function currentUsage(db: Db, tenant: string, now: number): Promise<CurrentUsage> {
  const usage: { -readonly [K in keyof CurrentUsage]: CurrentUsage[K] } = {}
  for (const { id, spent, held } of await currentAllowances(db, tenant, now)) {
    const kind = readAllowanceId(tenant, id)?.kind
    if (kind === 'runs') usage.runs = held
    if (kind === 'tenant') usage.total = money(spent, held)
    if (kind === 'day') usage.day = money(spent, held)
  }
  return usage
}

function viewOf({ id, tenant, spent, held }: AllowanceRow): Usage | undefined {
  const { kind, of, day } = readAllowanceId(tenant, id) ?? {}
  if (kind === undefined || kind === 'runs') return undefined
  return { id, budget: kind, ...(of === undefined ? {} : { of }), ...(day === undefined ? {} : { day }), ...money(spent, held) }
}

const money = (spent: number, held: number) => ({ spent_usd: toUsd(spent), reserved_usd: toUsd(held) })
