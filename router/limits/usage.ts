/** What a tenant has used of its budgets and limits, as the admin API shows it. */
import { readAllowanceId, toUsd } from '../core/budget.ts'
import type { Db } from '../ports.ts'
import { currentAllowances } from '../store/allowances.ts'

export interface Money {
  readonly spent_usd: number
  /** Held by runs that have not ended. */
  readonly reserved_usd: number
}

/** What of a tenant's own limits is used now. What is not there was never limited. */
export interface CurrentUsage {
  readonly total?: Money
  /** Of this day, of UTC. */
  readonly day?: Money
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

const money = (spent: number, held: number): Money => ({ spent_usd: toUsd(spent), reserved_usd: toUsd(held) })
