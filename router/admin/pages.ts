/**
 * Lists of the admin API: pages in the order of their cursor, which is the id of the last thing that was seen.
 *
 * A route reads one row more than it shows, so that it knows whether there is a next page without counting.
 */
import { z } from '@hono/zod-openapi'
import { TenantId } from '../../shared/ids.ts'

export const PageQuery = z.strictObject({
  after: z.string().min(1).max(256).optional().openapi({ description: 'Cursor: `next` of the page before.' }),
  limit: z.coerce.number().pipe(z.int().min(1).max(100)).default(50),
})
export type PageQuery = z.infer<typeof PageQuery>

/** For what belongs to a tenant. Hold `tenant` against guard/operator's `tenantOf`. */
export const TenantPageQuery = PageQuery.extend({
  tenant: TenantId.optional().openapi({ description: 'Your own unless given; only an admin of `default` may name another.' }),
})
export type TenantPageQuery = z.infer<typeof TenantPageQuery>

/** The answer of a list. */
export const pageOf = <S extends z.ZodType>(item: S) => z.object({ data: z.array(item), next: z.string().nullable() })

/** `rows`: at most `limit + 1`, in the order of `cursorOf`. `next` is null on the last page. */
export function page<R, V>(rows: readonly R[], limit: number, cursorOf: (row: R) => string, view: (row: R) => V): { data: V[]; next: string | null } {
  const shown = rows.slice(0, limit)
  const last = shown.at(-1)
  return { data: shown.map((row) => view(row)), next: rows.length > limit && last !== undefined ? cursorOf(last) : null }
}
