import { createParser, type EventSourceMessage } from 'eventsource-parser'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from './sse.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function parse(...parts: Uint8Array[]): { events: EventSourceMessage[]; comments: string[]; retries: number[] } {
  const events: EventSourceMessage[] = []
  const comments: string[] = []
  const retries: number[] = []
  const parser = createParser({ onEvent: (e) => events.push(e), onComment: (c) => comments.push(c), onRetry: (ms) => retries.push(ms) })
  for (const bytes of parts) parser.feed(decoder.decode(bytes))
  return { events, comments, retries }
}

const framed = (first: number, lines: readonly string[]) => sseMessages(first, encoder.encode(lines.map((line) => `${line}\n`).join('')))

/** Characters that other line readers stop at, or that only look like SSE. */
const tricky = fc.constantFrom('\u2028', '\u2029', '\u0085', '\ufeff', '\v', '\f', '\0', '\r\n', '\n\nid: 9\n\n', 'data: ', '€', '😀', ': ')
const text = fc.array(fc.oneof(fc.string({ unit: 'binary' }), tricky), { maxLength: 8 }).map((parts) => parts.join(''))
const jsonLine = fc.dictionary(text, fc.oneof(text, fc.jsonValue()), { maxKeys: 4 }).map((value) => JSON.stringify(value))

describe('the lines of a run as server-sent events', () => {
  it('give a parser back the ids and the lines, character for character', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), fc.array(jsonLine, { maxLength: 10 }), (first, lines) => {
        const { events } = parse(framed(first, lines))
        expect(events).toEqual(lines.map((data, i) => ({ id: String(first + i), event: 'message', data })))
      }),
    )
  })

  it('hold the bytes of every line untouched', () => {
    fc.assert(
      fc.property(fc.array(jsonLine, { maxLength: 10 }), (lines) => {
        expect(decoder.decode(framed(7, lines))).toBe(lines.map((line, i) => `id: ${7 + i}\nevent: message\ndata: ${line}\n\n`).join(''))
      }),
    )
  })

  it('count on where a number becomes longer', () => {
    fc.assert(
      fc.property(fc.nat(15), fc.nat(12), (digits, before) => {
        const first = Math.max(1, 10 ** digits - before)
        const { events } = parse(framed(first, Array.from({ length: 24 }, () => '{}')))
        expect(events.map((e) => e.id)).toEqual(Array.from({ length: 24 }, (_, i) => String(first + i)))
      }),
    )
  })

  it('carry a line of two megabytes whole', () => {
    const long = JSON.stringify({ text: '€'.repeat(700_000) })
    expect(parse(framed(1, ['{}', long, '{}'])).events.map((e) => e.data)).toEqual(['{}', long, '{}'])
  })

  it('are nothing when there are no lines', () => {
    expect(sseMessages(1, new Uint8Array())).toHaveLength(0)
  })

  it('end each event even if the last line has lost its end', () => {
    expect(parse(sseMessages(3, encoder.encode('{"a":1}\n{"b":2}'))).events.map((e) => e.id)).toEqual(['3', '4'])
  })
})

describe('the same lines for clients of other servers', () => {
  const styles = fc.record({ event: fc.constantFrom(undefined, 'message', 'x'), eol: fc.constantFrom('\n' as const, '\r\n' as const) })

  it('carry the same ids and characters, whatever ends a line and whatever their name is', () => {
    fc.assert(
      fc.property(fc.array(jsonLine, { maxLength: 6 }), styles, (lines, style) => {
        const bytes = sseMessages(5, encoder.encode(lines.map((line) => `${line}\n`).join('')), style)
        expect(parse(bytes).events).toEqual(lines.map((data, i) => ({ id: String(5 + i), event: style.event, data })))
      }),
    )
  })

  it('have no name where the dialect has none, and CRLF where it writes that', () => {
    expect(decoder.decode(sseMessages(2, encoder.encode('{}\n'), {}))).toBe('id: 2\ndata: {}\n\n')
    expect(decoder.decode(sseMessages(2, encoder.encode('{}\n'), { event: 'message', eol: '\r\n' }))).toBe('id: 2\r\nevent: message\r\ndata: {}\r\n\r\n')
    expect(decoder.decode(sseEvent(3, undefined, '{}', '\r\n'))).toBe('id: 3\r\ndata: {}\r\n\r\n')
  })
})

describe('the other server-sent events', () => {
  it('carry a mark by its name and id', () => {
    fc.assert(
      fc.property(jsonLine, (data) => {
        expect(parse(sseEvent(12, 'gap', data)).events).toEqual([{ id: '12', event: 'gap', data }])
      }),
    )
  })

  it('do not show comments and the retry hint as events', () => {
    const { events, comments, retries } = parse(SSE_RETRY, SSE_COMMENT, sseEvent(1, 'done', '{}'), SSE_COMMENT)
    expect(events).toHaveLength(1)
    expect(comments).toHaveLength(2)
    expect(retries).toEqual([500])
  })
})
