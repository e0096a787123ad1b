/**
 * Reads one stream of server-sent events and checks that all of it is there: ids count up by one, lines count up by one,
 * each is of this run and has the bytes that its number says, and the last event says that the run ended as it was meant to. Of all that only
 * the last event is parsed as JSON: the reader must not be what is measured.
 */
import { z } from 'zod'
import type { Counts } from '../programme.ts'
import type { Histogram } from './histogram.ts'
import { LINE_HEAD, pattern, patternStart } from './pattern.ts'

const Summary = z.object({ status: z.string() })
const SEPARATOR = Buffer.from('\n\n')
const ID = Buffer.from('id: ')
const MESSAGE = Buffer.from('event: message\ndata: ')
/** A mark in place of events that are not there. */
const GAP = Buffer.from('event: gap\n')
const DONE = Buffer.from('event: done\ndata: ')
const SALT = Buffer.from(',"salt":')
const AT = Buffer.from(',"at":')
const PAD = Buffer.from(',"pad":"')
const NEWLINE = 0x0a
const ZERO = 0x30

export interface Expected {
  /** What the first id comes after. */
  readonly after: number
  /** Of each line of the fake CLI. Absent: the lines are those of the real one, and only ids are checked. */
  readonly bytes?: number | undefined
  /** How many lines there are in all; absent: as many as come. */
  readonly lines?: number | undefined
  /** What its lines say that they belong to. */
  readonly salt?: number | undefined
  /** It prints until it is cancelled: an end that comes before is none. */
  readonly endless?: boolean
}

/** Looked at for all streams of a process at once. */
export interface Look {
  readonly lags: Histogram
  lines: number
}

export class Reader {
  readonly #expected: Expected
  readonly counts: Counts = { lost: 0, reordered: 0, corrupt: 0, broken: 0 }
  /** Events with an id. */
  events = 0
  /** Lines of the fake CLI. */
  lines = 0
  bytes = 0
  /** When the first line of the CLI was here. */
  firstLineUs: number | undefined
  /** The longest time between two lines, in µs. */
  longestGapUs = 0
  #lastId: number
  #lastN: number | undefined
  #lastLineUs: number | undefined
  /** What its last event says of the run. */
  #status: string | undefined
  #rest: Buffer = Buffer.alloc(0)

  constructor(expected: Expected) {
    this.#expected = expected
    this.#lastId = expected.after
    // From the beginning the first line is 1; later on it is whatever comes first.
    this.#lastN = expected.after === 0 ? 0 : undefined
  }

  push(piece: Buffer, nowUs: number, look?: Look): void {
    this.bytes += piece.length
    const data = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece])
    let from = 0
    // What was there before has no end of an event in it, but its last byte may be the first of one.
    for (let to = data.indexOf(SEPARATOR, Math.max(0, this.#rest.length - 1)); to >= 0; to = data.indexOf(SEPARATOR, from)) {
      this.#event(data, from, to, nowUs, look)
      from = to + SEPARATOR.length
    }
    this.#rest = data.subarray(from)
  }

  /** After the end of the stream, however it came. `cancelled`: whether its run was, before that. */
  end(cancelled = false): Counts {
    const { lines, endless = false } = this.#expected
    const meant = cancelled ? this.#status === 'cancelled' : this.#status === 'succeeded' && !endless
    if (!meant || this.#rest.length > 0) this.counts.broken++
    if (lines !== undefined && (this.#lastN ?? 0) < lines) this.counts.lost += lines - (this.#lastN ?? 0)
    return this.counts
  }

  #event(data: Buffer, from: number, to: number, nowUs: number, look: Look | undefined): void {
    // Comments, the retry hint and a place in the line have no id.
    if (!startsWith(data, ID, from, to)) return
    const idEnd = data.indexOf(NEWLINE, from)
    if (!this.#follows(numberAt(data, from + ID.length, idEnd), this.#lastId)) return
    this.#lastId = numberAt(data, from + ID.length, idEnd)
    this.events++
    // The last event is the last.
    if (this.#status !== undefined) this.counts.corrupt++
    const at = idEnd + 1
    if (startsWith(data, MESSAGE, at, to)) this.#line(data, at + MESSAGE.length, to, nowUs, look)
    else if (startsWith(data, GAP, at, to)) this.counts.lost++
    else if (startsWith(data, DONE, at, to)) this.#status = statusOf(data.toString('utf8', at + DONE.length, to))
  }

  /** Whether it is to be counted at all: one that comes again is not. */
  #follows(n: number, last: number): boolean {
    if (n > last + 1) this.counts.lost += n - last - 1
    else if (n <= last) this.counts.reordered++
    return n > last
  }

  #line(data: Buffer, from: number, to: number, nowUs: number, look: Look | undefined): void {
    this.firstLineUs ??= nowUs
    const { bytes, salt } = this.#expected
    if (bytes === undefined) return
    if (!startsWith(data, LINE_HEAD, from, to)) {
      if (!/^\{"type":"(?:system|result)"/.test(data.toString('latin1', from, from + 20))) this.counts.corrupt++
      return
    }
    const nEnd = digitsEnd(data, from + LINE_HEAD.length)
    const n = numberAt(data, from + LINE_HEAD.length, nEnd)
    if (this.#lastN !== undefined && !this.#follows(n, this.#lastN)) return
    this.#lastN = n
    this.lines++
    const saltEnd = digitsEnd(data, nEnd + SALT.length)
    const atEnd = digitsEnd(data, saltEnd + AT.length)
    const fillFrom = atEnd + PAD.length
    const filling = Math.max(0, bytes - (fillFrom - from) - 3)
    const start = patternStart(n)
    const right =
      startsWith(data, SALT, nEnd, to) &&
      numberAt(data, nEnd + SALT.length, saltEnd) === salt &&
      startsWith(data, AT, saltEnd, to) &&
      startsWith(data, PAD, atEnd, to) &&
      fillFrom + filling + 2 === to &&
      data.compare(pattern(filling), start, start + filling, fillFrom, fillFrom + filling) === 0
    if (!right) this.counts.corrupt++
    const gap = this.#lastLineUs === undefined ? 0 : nowUs - this.#lastLineUs
    if (gap > this.longestGapUs) this.longestGapUs = gap
    if (look) {
      look.lines++
      look.lags.add(nowUs - numberAt(data, saltEnd + AT.length, atEnd))
    }
    this.#lastLineUs = nowUs
  }
}

function statusOf(summary: string): string {
  const parsed = Summary.safeParse(jsonOf(summary))
  return parsed.success ? parsed.data.status : 'none'
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function startsWith(data: Buffer, what: Buffer, from: number, to: number): boolean {
  return from + what.length <= to && data.compare(what, 0, what.length, from, from + what.length) === 0
}

function digitsEnd(data: Buffer, from: number): number {
  let at = from
  while (data[at]! >= ZERO && data[at]! <= ZERO + 9) at++
  return at
}

function numberAt(data: Buffer, from: number, to: number): number {
  let n = 0
  for (let at = from; at < to; at++) n = n * 10 + data[at]! - ZERO
  return n
}
