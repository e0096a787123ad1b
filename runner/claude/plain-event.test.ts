import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isPlainEvent } from './plain-event.ts'

const bytesOf = (text: string): Uint8Array => Buffer.from(text)

/** What a yes promises, by a real parser. */
function isOne(bytes: Uint8Array): boolean {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    const json = JSON.parse(text) as { type?: unknown } | null
    return typeof json === 'object' && json !== null && !Array.isArray(json) && json.type === 'stream_event' && !bytes.includes(0x0d)
  } catch {
    return false
  }
}

/** As the CLI prints them, and as no CLI would. */
const names = fc.oneof({ weight: 3, arbitrary: fc.constantFrom('type', 'event', '__proto__', 'ty\u0000pe', '€') }, fc.string())
const fields = fc.array(fc.tuple(names, fc.oneof(fc.constantFrom('stream_event', 'result', 1e300, -0.5, true, null), fc.jsonValue())), { maxLength: 5 })
const texts = fc.tuple(fields, fields).map(([before, after]) => {
  const parts = [...before, ['type', 'stream_event'], ...after].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`)
  return `{${parts.join(',')}}`
})
const pieces = fc.constantFrom('{', '}', '[', ']', ',', ':', '"', '\\', '\\u00', '"type":', '"\\u0074ype":', '"stream_event"', '0', '01', '1.', '-', '.5', 'e9', ' ', '\t', '\r', '\0', 'tru', 'null', '\ufeff', '€', '\ud800')
/** Of one text, some bytes cut out and something else put in. */
const damaged = fc
  .tuple(texts, fc.nat(), fc.nat(3), fc.oneof(pieces.map(bytesOf), fc.uint8Array({ maxLength: 2 })))
  .map(([text, at, cut, put]) => {
    const bytes = Buffer.from(text)
    const from = at % (bytes.length + 1)
    return Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + cut)])
  })
const assembled = fc.array(pieces, { maxLength: 12 }).map((parts) => bytesOf(`{"type":"stream_event",${parts.join('')}}`))

describe('a line that need not be read', () => {
  it('is what a parser would say it is, whatever the line is made of', () => {
    fc.assert(
      fc.property(fc.oneof(damaged, assembled, texts.map(bytesOf)), (bytes) => {
        fc.pre(isPlainEvent(bytes))
        expect(isOne(bytes)).toBe(true)
      }),
      { numRuns: 3_000, maxSkipsPerRun: 1_000 },
    )
  })

  it('is what a parser would say it is, whatever two pieces a value is made of', () => {
    const values = ['', '-', '0', '-0', '00', '01', '1.', '1.5', '.5', '-1', 'true', 'false', 'null', '"a"', '{}', '[]', '[0', '{"a":']
    const lines = values.flatMap((one) => values.flatMap((two) => ['', ']', '}', ',"b":1'].map((end) => `{"type":"stream_event","a":${one}${two}${end}}`)))
    expect(lines.filter((line) => isPlainEvent(bytesOf(line)) && !isOne(bytesOf(line)))).toEqual([])
  })

  it('is every piece of a message that the CLI prints', () => {
    const event = { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: ' a "b"\n\u0001 € 😀 \\' } }
    const ids = { session_id: '0190a8c4-7c1e-7000-8000-000000000001', parent_tool_use_id: null, uuid: '0190a8c4-7c1e-7000-8000-000000000002' }
    expect(isPlainEvent(bytesOf(JSON.stringify({ type: 'stream_event', event, ...ids })))).toBe(true)
    expect(isPlainEvent(bytesOf(JSON.stringify({ event, n: [1, -20, 0.5, true, false, {}, []], type: 'stream_event' })))).toBe(true)
  })

  it.each([
    ['says something else of its type later', '{"type":"stream_event","type":"result"}'],
    ['says so in other letters', '{"type":"stream_event","\\u0074ype":"result"}'],
    ['has its type further in', '{"event":{"type":"stream_event"}}'],
    ['is of another type', '{"type":"result"}'],
    ['is of a longer type', '{"type":"stream_event2"}'],
    ['is more than one', '{"type":"stream_event"}{}'],
    ['is not whole', '{"type":"stream_event"'],
    ['ends in the middle of an escape', '{"type":"stream_event","a":"\\u00'],
    ['is an array', '["type","stream_event"]'],
    ['is very deep', `{"type":"stream_event","a":${'['.repeat(100)}${']'.repeat(100)}}`],
    ['has a carriage return', '{"type":"stream_event","a":"\r"}'],
    ['is empty', ''],
    ...['-true', '-null', '01null', '00false', '1.true', '--1', '-', '1.', '01', '1e5', 'tru', 'truefalse', 'null0'].map((value) => [
      `has ${value} for a value`,
      `{"type":"stream_event","a":${value}}`,
    ]),
  ])('is none that %s', (_what, text) => {
    expect(isPlainEvent(bytesOf(text))).toBe(false)
  })

  it('is none whose bytes are no UTF-8', () => {
    const bytes = Buffer.from('{"type":"stream_event","a":"xx"}')
    bytes[bytes.indexOf('xx')] = 0xc3
    expect(isPlainEvent(bytes)).toBe(false)
    bytes[bytes.indexOf('x"')] = 0xa4
    expect(isPlainEvent(bytes)).toBe(true)
  })
})
