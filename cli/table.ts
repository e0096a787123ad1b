/** Tables for people: columns by width, no lines. What comes from elsewhere never reaches the terminal as it is. */
import { bold, out } from './output.ts'

export type Cell = string | number | boolean | null | undefined

/** Prints `rows` under `headers`; `none` instead when there are no rows. */
export function table(headers: readonly string[], rows: readonly (readonly Cell[])[], none: string): void {
  if (rows.length === 0) return out(none)
  const [head, ...lines] = layOut([headers, ...rows.map((row) => row.map(text))])
  out(bold(head ?? ''))
  for (const line of lines) out(line)
}

/** Names and their values, one a line; those that are undefined are left out. */
export function facts(pairs: readonly (readonly [string, Cell])[]): void {
  for (const line of layOut(pairs.filter(([, value]) => value !== undefined).map((pair) => pair.map(text)))) out(line)
}

const GAP = '  '

/** Lines of equal columns, without spaces at their ends. */
export function layOut(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, width(cell))))
  return rows.map((row) =>
    row
      .map((cell, i) => cell + ' '.repeat((widths[i] ?? 0) - width(cell)))
      .join(GAP)
      .trimEnd(),
  )
}

const segments = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
const width = (cell: string) => [...segments.segment(cell)].length

/** A name that somebody else chose could move the cursor or forge a row: control characters are shown as `?`. */
export function text(cell: Cell): string {
  if (cell === null || cell === undefined || cell === '') return '-'
  if (typeof cell === 'boolean') return cell ? 'yes' : 'no'
  // C0, DEL, C1, line and paragraph separators, and what turns the direction of writing round.
  return String(cell).replaceAll(/[\p{Cc}\u2028\u2029\u202A-\u202E\u2066-\u2069]/gu, '?')
}

/** `2026-11-21 08:05`, in UTC: people compare it with a log. */
export const when = (iso: string | null | undefined): string | null => (iso ? iso.slice(0, 16).replace('T', ' ') : null)

export const usd = (amount: number): string => `$${amount.toFixed(amount < 1 ? 4 : 2)}`
