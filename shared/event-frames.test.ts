import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { countNewlines, decodeEventFrame, encodeEventFrame, MAX_PARTS, PART_BYTES, type EventHeader } from './event-frames.ts'
import { LINE_CAP, MAX_MESSAGE } from './limits.ts'

const encoder = new TextEncoder()
const run = `run_${'a'.repeat(32)}`
const positive = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })
/** Bytes without LF and CR; everything else may be in a line as far as framing goes. */
const line = fc.uint8Array({ maxLength: 60 }).map((bytes) => bytes.map((byte) => (byte === 0x0a || byte === 0x0d ? 0x0b : byte)))

const evFrame = fc.record({ first: positive, fence: positive, lines: fc.array(line, { minLength: 1, maxLength: 12 }) }).map(({ first, fence, lines }) => ({
  header: { t: 'ev', run, fence, first, n: lines.length } satisfies EventHeader,
  body: Uint8Array.from(lines.flatMap((bytes) => [...bytes, 0x0a])),
}))
const partFrame = fc
  .record({ seq: positive, fence: positive, of: fc.integer({ min: 2, max: MAX_PARTS }), at: fc.nat(MAX_PARTS), body: line.filter((b) => b.length > 0) })
  .map(({ seq, fence, of, at, body }) => ({ header: { t: 'part', run, fence, seq, i: at % of, of } satisfies EventHeader, body }))

/** A frame with a header that the encoder would not write. */
function frame(header: unknown, body: string | Uint8Array = '{}\n'): Uint8Array {
  const head = encoder.encode(typeof header === 'string' ? header : `${JSON.stringify(header)}\n`)
  const rest = typeof body === 'string' ? encoder.encode(body) : body
  return Uint8Array.from([...head, ...rest])
}

describe('an event frame', () => {
  it('comes back as it went in, whatever bytes the lines hold', () => {
    fc.assert(
      fc.property(fc.oneof(evFrame, partFrame), ({ header, body }) => {
        expect(decodeEventFrame(encodeEventFrame(header, body))).toEqual({ header, body })
      }),
    )
  })

  it('is refused when any byte of it is cut off at its end', () => {
    fc.assert(
      fc.property(evFrame, fc.nat(), ({ header, body }, at) => {
        const whole = encodeEventFrame(header, body)
        expect(decodeEventFrame(whole.subarray(0, at % whole.length))).toBeTypeOf('string')
      }),
    )
  })

  it('is never mistaken for one when it is anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        expect(decodeEventFrame(bytes)).toBeTypeOf('string')
      }),
    )
  })

  const ev = { t: 'ev', run, fence: 1, first: 1, n: 1 }
  const part = { t: 'part', run, fence: 1, seq: 1, i: 0, of: 2 }
  it.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array()],
    ['a CR in a line, which would end it in SSE', frame({ t: 'ev', run, fence: 1, first: 1, n: 1 }, '{"type":"x"}\r\rid: 77\revent: done\r\n')],
    ['a CR in a part', frame({ t: 'part', run, fence: 1, seq: 1, i: 0, of: 2 }, 'x\rid: 9')],
    ['more bytes than a message may have', frame({ t: 'ev', run, fence: 1, first: 1, n: 1 }, `${'x'.repeat(MAX_MESSAGE)}\n`)],
    ['no header line', encoder.encode(JSON.stringify(ev))],
    ['a header longer than any header is', frame({ ...ev, pad: 'x'.repeat(600) })],
    ['a header that is not JSON', frame('{"t":"ev"\n')],
    ['a header that is not UTF-8', Uint8Array.from([0xff, 0xfe, 0x0a, 0x0a])],
    ['a header that is no object', frame('[]\n')],
    ['an unknown t', frame({ ...ev, t: 'evil' })],
    ['a run that is no run id', frame({ ...ev, run: '../../etc/passwd' })],
    ['fence 0', frame({ ...ev, fence: 0 })],
    ['seq 0', frame({ ...ev, first: 0 })],
    ['a seq that is no integer', frame({ ...ev, first: 1.5 })],
    ['a seq past what a number can count', frame(`{"t":"ev","run":"${run}","fence":1,"first":9007199254740993,"n":1}\n`)],
    ['no lines', frame({ ...ev, n: 0 }, '')],
    ['fewer lines than it says', frame({ ...ev, n: 2 })],
    ['more lines than it says', frame(ev, '{}\n{}\n')],
    ['a last line without an end', frame({ ...ev, n: 1 }, '{}\n{}')],
    ['a part past the end', frame({ ...part, i: 2 }, 'x')],
    ['a part with a negative place', frame({ ...part, i: -1 }, 'x')],
    ['a line in one part', frame({ ...part, of: 1 }, 'x')],
    ['more parts than the longest line has', frame({ ...part, of: MAX_PARTS + 1 }, 'x')],
    ['an empty part', frame(part, '')],
    ['a part with a line end in it', frame(part, 'x\n')],
  ])('is refused with %s', (_what, bytes) => {
    expect(decodeEventFrame(bytes)).toBeTypeOf('string')
  })

  it('has room for its header beside the largest part', () => {
    const header = { t: 'part', run, fence: Number.MAX_SAFE_INTEGER, seq: Number.MAX_SAFE_INTEGER, i: MAX_PARTS - 1, of: MAX_PARTS } as const
    expect(encodeEventFrame(header, new Uint8Array(PART_BYTES)).length).toBeLessThanOrEqual(MAX_MESSAGE)
    expect(MAX_PARTS * PART_BYTES).toBeGreaterThanOrEqual(LINE_CAP)
  })

  it('shares the bytes of the message instead of copying them', () => {
    const whole = frame(ev)
    const decoded = decodeEventFrame(whole)
    expect(typeof decoded === 'string' ? undefined : decoded.body.buffer).toBe(whole.buffer)
  })
})

describe('countNewlines', () => {
  it('counts as a scan would', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(0x0a, 0x0d, 0x20)), (bytes) => {
        expect(countNewlines(Uint8Array.from(bytes))).toBe(bytes.filter((byte) => byte === 0x0a).length)
      }),
    )
  })
})
