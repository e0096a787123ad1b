/** The shapes of statistics, in and out, and what a range of days means. */
import { z } from '@hono/zod-openapi'
import { Fault } from '../../shared/faults.ts'
import { SessionId, TenantId } from '../../shared/ids.ts'
import { ORIGINS } from '../engine/submit.ts'
import { USAGE_KEYS, USAGE_ORDERS, type UsageRange, type Used } from '../engine/usage.ts'

const DAY_MS = 86_400_000
/** More than a year of days at once is a report, not a request. */
const MAX_DAYS = 400

const count = z.int().nonnegative()
const used = {
  runs: count.openapi({ description: 'Those that have ended.' }),
  succeeded: count,
  failed: count.openapi({ description: 'With those that were lost.' }),
  cancelled: count,
  sessions: count.openapi({ description: 'Different ones.' }),
  input_tokens: count,
  output_tokens: count,
  cache_creation_input_tokens: count,
  cache_read_input_tokens: count,
  cost_usd: z.number().nonnegative().openapi({ description: 'The sum of the costs of the runs, exact to a billionth of a dollar each.' }),
  estimated: count.openapi({ description: 'How many of the runs have a cost that nobody counted.' }),
  duration_ms: count,
  last_ended_at: z.iso.datetime().nullable(),
}
const Used = z.object(used).openapi('Used')
const UsedBy = z.object({ key: z.string().nullable().openapi({ description: 'Null: nobody knows.' }), ...used }).openapi('UsedBy')

export const Usage = z
  .object({
    from: z.iso.datetime().nullable(),
    to: z.iso.datetime().nullable(),
    group_by: z.enum(USAGE_KEYS).nullable(),
    total: Used,
    data: z.array(UsedBy).openapi({ description: 'By `group_by`; empty without.' }),
  })
  .openapi('Usage')

const instant = z.union([z.iso.date(), z.iso.datetime({ offset: true })])
export const UsageQuery = z.strictObject({
  from: instant.optional().openapi({ description: 'Runs that ended then or later: a day of UTC (`2026-11-21`) or a time.' }),
  to: instant.optional().openapi({ description: 'Runs that ended before: a time, or a day, all of which belongs to it.' }),
  group_by: z.enum(USAGE_KEYS).exclude(['tenant']).optional(),
  session_id: SessionId.optional(),
  project: z.string().min(1).max(4096).optional().openapi({ description: 'The real directory that they worked in.' }),
  origin: z.enum(ORIGINS).optional().openapi({ description: 'The dialect that they were asked for in.' }),
  order: z.enum(USAGE_ORDERS).optional().openapi({ description: 'Highest first; days come newest first and others by cost unless given.' }),
  limit: z.coerce.number().pipe(z.int().min(1).max(1_000)).default(100),
})
export const TenantUsageQuery = UsageQuery.extend({
  group_by: z.enum(USAGE_KEYS).optional().openapi({ description: '`tenant`: an admin of `default` who names none gets all of them.' }),
  tenant: TenantId.optional().openapi({ description: 'Your own unless given; only an admin of `default` may name another.' }),
})

/** Throws `invalid_request` for a range that is upside down, or too long to be shown by days. */
export function rangeOf({ from, to, group_by, session_id, project, origin }: z.infer<typeof TenantUsageQuery>): UsageRange {
  const begin = from === undefined ? undefined : momentOf(from)
  const end = to === undefined ? undefined : momentOf(to) + (isDay(to) ? DAY_MS : 0)
  if (begin !== undefined && to !== undefined && end !== undefined) {
    if (end < begin || (end === begin && isDay(to))) throw new Fault('invalid_request', 'to: is before from', { extra: { field: 'to' } })
    if (group_by === 'day' && end - begin > MAX_DAYS * DAY_MS) {
      throw new Fault('invalid_request', `from: more than ${MAX_DAYS} days before to`, { extra: { field: 'from' } })
    }
  }
  return { from: inReach(begin), to: inReach(end), session: session_id, project, origin }
}

/** Years have four digits here, and no run has ended before there was a clock to say so. */
const LAST_MS = Date.parse('9999-12-31T23:59:59.999Z')
const inReach = (ms: number | undefined) => ms && Math.min(LAST_MS, Math.max(0, ms))

const isDay = (text: string) => text.length === '2026-11-21'.length
const momentOf = (text: string) => Date.parse(isDay(text) ? `${text}T00:00:00Z` : text)

export const iso = (ms: number | null | undefined): string | null => (typeof ms === 'number' ? new Date(ms).toISOString() : null)
export const usedView = <R extends Used>(row: R): Omit<R, 'last_ended_at'> & { last_ended_at: string | null } => ({ ...row, last_ended_at: iso(row.last_ended_at) })
