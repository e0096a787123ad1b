/** Money is added in whole billionths of a dollar: the order of adding does not matter, and every host gets the same sum. */
import { sql, type SQL } from 'drizzle-orm'

/** A billion of them is a dollar. */
export const NANOS = sql.raw('1000000000')

/** What it costs, as a whole number; null is 0. */
export const nanosOf = (usd: SQL): SQL => sql`CAST(round(coalesce(${usd}, 0) * ${NANOS}) AS INTEGER)`

/** What whole dollars and billionths of them add up to: apart, as together they could be too many for an integer. */
export const dollars = (whole: SQL, rest: SQL): SQL<number> =>
  sql<number>`(coalesce(sum(${whole}), 0) + coalesce(sum(${rest}), 0) / ${NANOS} + (coalesce(sum(${rest}), 0) % ${NANOS}) / 1000000000.0)`

/** The sum of a column of dollars, exact to a billionth per row; 0 of no rows. */
export function sumOfUsd(usd: SQL): SQL<number> {
  const nanos = nanosOf(usd)
  return dollars(sql`${nanos} / ${NANOS}`, sql`${nanos} % ${NANOS}`)
}
