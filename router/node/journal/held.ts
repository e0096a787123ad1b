/**
 * Rows of the event log that are in the journal and not in the database yet: what they are read from, and in which shape
 * they go there. Kept in memory, all of them, because the journal itself is only read after a crash.
 */
import { afterLines } from '../../../shared/event-frames.ts'
import { COALESCE_BYTES } from '../../../shared/limits.ts'
import type { LogRow } from '../../core/intake.ts'
import type { EventChunk } from '../../ports.ts'
import { eventOf } from '../../store/run-events.ts'

/** Rows that are whole events: a line in parts goes to the database at once. */
export type WholeRow = LogRow & { readonly kind: EventChunk['kind'] }
type Entry = { readonly fence: number; readonly rows: WholeRow[]; bytes: number }

export class Held {
  readonly #runs = new Map<string, Entry>()

  get isEmpty(): boolean {
    return this.#runs.size === 0
  }

  runs(): string[] {
    return [...this.#runs.keys()]
  }

  /** `row` is the next one of its run. */
  add(run: string, fence: number, row: WholeRow): void {
    const entry = this.#runs.get(run) ?? { fence, rows: [], bytes: 0 }
    entry.rows.push(row)
    entry.bytes += row.bytes.length
    this.#runs.set(run, entry)
  }

  /** What is held of all these. */
  bytesOf(runs: readonly string[]): number {
    return runs.reduce((sum, run) => sum + (this.#runs.get(run)?.bytes ?? 0), 0)
  }

  /** The first rows of a run, at least one of about `maxBytes`, in as few as can be; they are `count` of what is held. */
  take(run: string, maxBytes: number): { fence: number; rows: WholeRow[]; count: number; isAll: boolean } | undefined {
    const entry = this.#runs.get(run)
    if (!entry) return undefined
    const { fence, rows } = entry
    let [count, bytes] = [0, 0]
    for (; count < rows.length && bytes < maxBytes; count++) bytes += rows[count]!.bytes.length
    return { fence, rows: merged(rows.slice(0, count)), count, isAll: count === rows.length }
  }

  /** The first `count` rows of a run are elsewhere now. */
  release(run: string, count: number): void {
    const entry = this.#runs.get(run)
    if (!entry || entry.rows.length <= count) this.#runs.delete(run)
    else for (const { bytes } of entry.rows.splice(0, count)) entry.bytes -= bytes.length
  }

  /** All rows of a run up to this event are elsewhere. */
  releaseTo(run: string, seq: number): void {
    const count = this.#runs.get(run)?.rows.filter((row) => row.first + row.count - 1 <= seq).length ?? 0
    if (count > 0) this.release(run, count)
  }

  /** Its newest event; undefined: none is held. */
  lastSeq(run: string): number | undefined {
    const last = this.#runs.get(run)?.rows.at(-1)
    return last && last.first + last.count - 1
  }

  event(run: string, seq: number): Uint8Array | undefined {
    const row = this.#runs.get(run)?.rows.find(({ first, count }) => first <= seq && seq < first + count)
    return row && eventOf(row, seq)
  }

  /** What follows `after`: at least one chunk and about `maxBytes`. Undefined: that event is not here, or there is none. */
  page(run: string, after: number, maxBytes: number): EventChunk[] | undefined {
    const rows = this.#runs.get(run)?.rows
    if (!rows || rows[0]!.first > after + 1) return undefined
    const page: WholeRow[] = []
    let bytes = 0
    for (const row of rows) {
      const { kind, first, count } = row
      if (first + count <= after + 1) continue
      if (bytes >= maxBytes) break
      const skip = kind === 'ev' ? Math.max(0, after + 1 - first) : 0
      const rest = skip === 0 ? row : { ...row, first: first + skip, count: count - skip, bytes: afterLines(row.bytes, skip) }
      page.push(rest)
      bytes += rest.bytes.length
    }
    return page.length > 0 ? merged(page) : undefined
  }
}

/** Few rows in place of many: a slow run has one event in each of them, and a row costs far more than its bytes. */
export function merged(rows: readonly WholeRow[]): WholeRow[] {
  const groups: WholeRow[][] = []
  let bytes = 0
  for (const row of rows) {
    const group = groups.at(-1)
    bytes += row.bytes.length
    if (group && group[0]!.kind === 'ev' && row.kind === 'ev' && bytes <= COALESCE_BYTES) group.push(row)
    else {
      groups.push([row])
      bytes = row.bytes.length
    }
  }
  return groups.map((group) => (group.length === 1 ? group[0]! : asOne(group)))
}

function asOne(group: readonly WholeRow[]): WholeRow {
  const count = group.reduce((sum, row) => sum + row.count, 0)
  return { ...group[0]!, count, bytes: Buffer.concat(group.map(({ bytes }) => bytes)) }
}
