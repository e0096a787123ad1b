/**
 * The numbering of one run's events as they arrive: which are next, which were seen before, which break the rules.
 *
 * `taken` is handed to the log, `durable` is what the log has confirmed; only the second is ever acknowledged.
 */
import type { EventHeader } from '../../shared/event-frames.ts'

/** Whole events up to `seq`, and `part` parts of the one after it. */
export type Position = { readonly seq: number; readonly part: number }

export type LogRow = {
  readonly first: number
  readonly part: number
  readonly parts: number
  readonly count: number
  readonly kind: 'ev' | 'part' | 'mark'
  readonly bytes: Uint8Array
}

export type Taken = { ok: true; row: LogRow } | { ok: false; why: 'seen' | 'not_contiguous' }

const SEEN: Taken = { ok: false, why: 'seen' }
const BROKEN: Taken = { ok: false, why: 'not_contiguous' }

export class Intake {
  #taken: Position
  #durable: Position
  /** Into how many parts the line is cut that each of them stands in. */
  #parts: number
  #durableParts: number

  constructor(durable: Position, parts = 0) {
    this.#taken = durable
    this.#durable = durable
    this.#parts = parts
    this.#durableParts = parts
  }

  get taken(): Position {
    return this.#taken
  }

  get durable(): Position {
    return this.#durable
  }

  /** Late frames of an old connection lie fully below the log's end and are dropped; a frame across it cannot happen. */
  frame(header: EventHeader, body: Uint8Array): Taken {
    if (header.t === 'ev') {
      if (header.first + header.n - 1 <= this.#taken.seq) return SEEN
      if (header.first !== this.#taken.seq + 1 || this.#taken.part !== 0) return BROKEN
      this.#taken = { seq: header.first + header.n - 1, part: 0 }
      return { ok: true, row: { first: header.first, part: 0, parts: 1, count: header.n, kind: 'ev', bytes: body } }
    }
    const { seq, i, of } = header
    if (seq <= this.#taken.seq || (seq === this.#taken.seq + 1 && i < this.#taken.part)) return SEEN
    if (seq !== this.#taken.seq + 1 || i !== this.#taken.part || (i > 0 && of !== this.#parts)) return BROKEN
    this.#parts = of
    this.#taken = i + 1 === of ? { seq, part: 0 } : { seq: seq - 1, part: i + 1 }
    return { ok: true, row: { first: seq, part: i, parts: of, count: 1, kind: 'part', bytes: body } }
  }

  mark(seq: number, bytes: Uint8Array): Taken {
    if (seq <= this.#taken.seq) return SEEN
    if (seq !== this.#taken.seq + 1 || this.#taken.part !== 0) return BROKEN
    this.#taken = { seq, part: 0 }
    return { ok: true, row: { first: seq, part: 0, parts: 1, count: 1, kind: 'mark', bytes } }
  }

  /** `parts` of the last row. */
  committed(upTo: Position, parts: number): void {
    if (!isBefore(this.#durable, upTo)) return
    this.#durable = upTo
    this.#durableParts = parts
  }

  /** What the log has, read from it anew: a commit that failed may have been kept all the same. */
  restart(durable: Position, parts: number): void {
    this.#durable = durable
    this.#durableParts = parts
    this.rewind()
  }

  /** What was handed over but never confirmed will be sent again. */
  rewind(): void {
    this.#taken = this.#durable
    this.#parts = this.#durableParts
  }
}

/** What of these rows a runner needs credit for. */
export function eventBytes(rows: readonly LogRow[]): number {
  return rows.reduce((sum, { kind, bytes }) => (kind === 'mark' ? sum : sum + bytes.length), 0)
}

export function isBefore(a: Position, b: Position): boolean {
  return a.seq < b.seq || (a.seq === b.seq && a.part < b.part)
}
