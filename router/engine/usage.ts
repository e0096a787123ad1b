/**
 * What was used, from the runs that have ended: all of it, or by day, model, provider, session, project, tenant or dialect.
 * Every dialect shows its statistics from here, so they are the same numbers everywhere.
 *
 * Whose they may be is the caller's to decide: an operator alone may leave the tenant out.
 */
import type { Deps } from '../ports.ts'
import { publicStatus, type PublicStatus } from '../core/run-state.ts'
import { countStates, overviewOfUsage, sumUsage, sumUsageBy, type Overview, type UsageFilter, type UsageKey, type UsageOrder, type UsageSums } from '../store/usage.ts'
import type { Origin } from './submit.ts'

export { USAGE_KEYS, USAGE_ORDERS, type Overview, type UsageKey, type UsageOrder, type UsageParts } from '../store/usage.ts'

/** Which runs are counted: by when they ended (`from` belongs to it, `to` does not; milliseconds since 1970), session, directory, dialect. */
export type UsageRange = Omit<UsageFilter, 'tenant' | 'origin'> & { readonly origin?: Origin | undefined }

export type Used = Omit<UsageSums, 'key'>
export type UsedBy = UsageSums

/** `tenant` undefined: all of them. */
export async function usageSummary({ store }: Pick<Deps, 'store'>, tenant: string | undefined, range: UsageRange = {}): Promise<Used> {
  const { key: _, ...used } = await sumUsage(store, { ...range, tenant })
  return used
}

/** Days come newest first and the others by what they cost, unless `order` says otherwise; highest first unless `ascending`. */
export async function usageBy(
  { store }: Pick<Deps, 'store'>,
  tenant: string | undefined,
  by: UsageKey,
  { limit, order = by === 'day' ? 'key' : 'cost_usd', ascending = false, ...range }: UsageRange & { limit: number; order?: UsageOrder | undefined; ascending?: boolean | undefined },
): Promise<UsedBy[]> {
  return sumUsageBy(store, by, { ...range, tenant }, { order, ascending, limit })
}

/** All of it, the newest days and the dearest models, for the price of one of them. */
export async function usageOverview({ store }: Pick<Deps, 'store'>, tenant: string, most: { days: number; models: number }): Promise<Overview> {
  return overviewOfUsage(store, tenant, most)
}

/** How many runs are in each public status, of all that are kept. */
export async function runCounts({ store }: Pick<Deps, 'store'>, tenant: string, origin?: Origin): Promise<Record<PublicStatus, number>> {
  const counts = { queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0, lost: 0 }
  for (const { state, count } of await countStates(store, { tenant, origin })) counts[publicStatus(state)] += count
  return counts
}
