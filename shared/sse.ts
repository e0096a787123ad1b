/**
 * Server-sent events in the native framing (WHATWG HTML §9.2): CLI lines untouched as `message`, marks by their kind.
 *
 * Lines come in as bytes and go out as bytes. decodeEventFrame lets no CR through, so one `data:` field carries a line whole.
 */
const encoder = new TextEncoder()
const NEWLINE = 0x0a

/** A router that was killed is back within a second or two; its clients should not be what takes longest. */
export const SSE_RETRY = encoder.encode('retry: 500\n\n')
export const SSE_COMMENT = encoder.encode(': keep-alive\n\n')

/** How the lines of an event are written: its name (none: unnamed), and what ends a line. */
export interface LineStyle {
  readonly event?: string | undefined
  readonly eol?: '\n' | '\r\n' | undefined
}
const NATIVE: LineStyle = { event: 'message' }

/** `bytes` are whole lines, each ended by `\n`; ids count up from `first`. */
export function sseMessages(first: number, bytes: Uint8Array, { event, eol = '\n' }: LineStyle = NATIVE): Uint8Array {
  const named = event === undefined ? '' : `event: ${event}${eol}`
  const end2 = encoder.encode(eol + eol)
  const heads: Uint8Array[] = []
  const ends: number[] = []
  let size = 0
  for (let at = 0, id = first; at < bytes.length; id++) {
    const end = bytes.indexOf(NEWLINE, at)
    const stop = end < 0 ? bytes.length : end
    const head = encoder.encode(`id: ${id}${eol}${named}data: `)
    heads.push(head)
    ends.push(stop)
    size += head.length + (stop - at) + end2.length
    at = stop + 1
  }
  const out = new Uint8Array(size)
  let from = 0
  let to = 0
  for (const [i, head] of heads.entries()) {
    const stop = ends[i]!
    out.set(head, to)
    out.set(bytes.subarray(from, stop), to + head.length)
    to += head.length + stop - from
    out.set(end2, to)
    to += end2.length
    from = stop + 1
  }
  return out
}

/** `data` must be one line. */
export function sseEvent(id: number, event: string | undefined, data: string, eol: '\n' | '\r\n' = '\n'): Uint8Array {
  return encoder.encode(`id: ${id}${eol}${event === undefined ? '' : `event: ${event}${eol}`}data: ${data}${eol}${eol}`)
}
