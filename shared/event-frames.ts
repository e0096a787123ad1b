/**
 * The binary frames of `runyard.v1`: CLI lines as they came, after one JSON header line.
 *
 * `ev` carries n whole lines, each ended by `\n`; `part` carries one slice of a line that is too long for a message.
 * The bytes are never decoded here, so what goes in at the runner comes out at the subscriber.
 */
import { z } from 'zod'
import { RunId } from './ids.ts'
import { LINE_CAP, MAX_MESSAGE } from './limits.ts'

const NEWLINE = 0x0a
const CARRIAGE_RETURN = 0x0d
/** Bytes of one part: a message less its header. */
export const PART_BYTES = MAX_MESSAGE - 1024
export const MAX_PARTS = Math.ceil(LINE_CAP / PART_BYTES)

const Positive = z.int().positive()

export const EvHeader = z.object({ t: z.literal('ev'), run: RunId, fence: Positive, first: Positive, n: Positive })
/** Part `i` of `of`, counted from 0. All parts but the last have the same size. */
export const PartHeader = z.object({
  t: z.literal('part'),
  run: RunId,
  fence: Positive,
  seq: Positive,
  i: z.int().nonnegative(),
  of: z.int().min(2).max(MAX_PARTS),
})
export type EvHeader = z.infer<typeof EvHeader>
export type PartHeader = z.infer<typeof PartHeader>
export const EventHeader = z.discriminatedUnion('t', [EvHeader, PartHeader])
export type EventHeader = z.infer<typeof EventHeader>
export type EventFrame = { header: EventHeader; body: Uint8Array }

/** A header has a fixed set of short fields; a longer first line is not one. */
const MAX_HEADER = 512
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export function encodeEventFrame(header: EventHeader, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const head = encoder.encode(`${JSON.stringify(header)}\n`)
  const frame = new Uint8Array(head.length + body.length)
  frame.set(head)
  frame.set(body, head.length)
  return frame
}

/** Returns the frame, or why it is malformed. The body is a view, not a copy. */
export function decodeEventFrame(frame: Uint8Array): EventFrame | string {
  const end = frame.subarray(0, MAX_HEADER).indexOf(NEWLINE)
  if (end < 0) return 'an event frame has no header line'
  let json: unknown
  try {
    json = JSON.parse(decoder.decode(frame.subarray(0, end)))
  } catch {
    return 'the header of an event frame is not JSON'
  }
  const header = EventHeader.safeParse(json)
  if (!header.success) return 'the header of an event frame is malformed'
  const body = frame.subarray(end + 1)
  // In SSE a CR ends a line as well (WHATWG HTML §9.2.6), so one inside a payload could forge ids and endings.
  if (body.includes(CARRIAGE_RETURN)) return 'an event frame holds a carriage return'
  if (body.length > MAX_MESSAGE) return `an event frame holds more than ${MAX_MESSAGE} bytes`
  if (header.data.t === 'ev') {
    if (countNewlines(body) !== header.data.n || body.at(-1) !== NEWLINE) return `an event frame does not hold ${header.data.n} lines`
  } else {
    if (header.data.i >= header.data.of) return `part ${header.data.i} of ${header.data.of} is past the end`
    if (body.length === 0) return 'a part is empty'
    if (body.includes(NEWLINE)) return 'a part holds a line end'
  }
  return { header: header.data, body }
}

export function countNewlines(bytes: Uint8Array): number {
  let n = 0
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) n++
  return n
}

/** What is left of whole lines behind the first `lines` of them. */
export function afterLines(bytes: Uint8Array, lines: number): Uint8Array {
  let at = 0
  for (let n = 0; n < lines; n++) at = bytes.indexOf(NEWLINE, at) + 1
  return bytes.subarray(at)
}
