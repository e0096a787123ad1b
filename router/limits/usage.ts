/** What a tenant has used of its budgets and limits, as the admin API shows it. */
import { readAllowanceId, toUsd, type AllowanceKind } from '../core/budget.ts'
import type { Db } from '../ports.ts'
import { allowancesOf, type AllowanceRow } from '../store/allowances.ts'

export { openReservations } from '../store/allowances.ts'

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
export async function usageOf(db: Db, tenant: string, page: { after?: string | undefined; limit?: number | undefined } = {}): Promise<Usage[]> {
  return (await allowancesOf(db, tenant, page)).flatMap((row) => viewOf(row) ?? [])
}

function viewOf({ id, tenant, spent, held }: AllowanceRow): Usage | undefined {
  const { kind, of, day } = readAllowanceId(tenant, id) ?? {}
  if (kind === undefined || kind === 'runs') return undefined
  return { id, budget: kind, ...(of === undefined ? {} : { of }), ...(day === undefined ? {} : { day }), spent_usd: toUsd(spent), reserved_usd: toUsd(held) }
}
