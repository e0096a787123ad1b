import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Framer } from '../../bench/floor/frame.ts'
import { Histogram } from '../../bench/load/histogram.ts'
import { fakeLine } from '../../bench/load/pattern.ts'
import { Reader } from '../../bench/load/reader.ts'
import { sseMessages } from '../../shared/sse.ts'

const BYTES = 120
const SALT = 4_711
const INIT = Buffer.from('{"type":"system","subtype":"init"}\n')

/** Event 1 is the init line, and line n is event n + 1. */
function events(lines: number, status: 'succeeded' | 'cancelled' = 'succeeded'): Buffer[] {
  const framer = new Framer()
  const all = [INIT, ...Array.from({ length: lines }, (_, i) => fakeLine(i + 1, BYTES, 1_000 + i, SALT))].map((line) => framer.lines(line))
  return [Buffer.from('retry: 500\n\n'), ...all, Buffer.from(': keep-alive\n\n'), Buffer.from(framer.done(status))]
}

function read(stream: Buffer, lines: number | undefined, cuts: readonly number[] = []) {
  const reader = new Reader({ after: 0, bytes: BYTES, lines, salt: SALT })
  const at = [0, ...cuts.map((cut) => cut % stream.length).toSorted((a, b) => a - b), stream.length]
  for (let i = 1; i < at.length; i++) reader.push(stream.subarray(at[i - 1], at[i]), i)
  return { reader, counts: reader.end() }
}

const NONE = { lost: 0, reordered: 0, corrupt: 0, broken: 0 }
/** The first line is behind the retry hint and the init line. */
const BEFORE_LINES = 2

describe('the reader of the load client', () => {
  it('finds nothing wrong with a whole stream, wherever the network cuts it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 }), fc.array(fc.nat(), { maxLength: 30 }), (lines, cuts) => {
        const { reader, counts } = read(Buffer.concat(events(lines)), lines, cuts)
        expect(counts).toEqual(NONE)
        expect([reader.events, reader.lines]).toEqual([lines + 2, lines])
      }),
    )
  })

  it('misses an event that is not there', () => {
    fc.assert(
      fc.property(fc.nat(18), fc.array(fc.nat(), { maxLength: 5 }), (missing, cuts) => {
        const { counts } = read(Buffer.concat(events(20).toSpliced(BEFORE_LINES + missing, 1)), 20, cuts)
        // Once by its id and once by its number.
        expect(counts).toEqual({ ...NONE, lost: 2 })
      }),
    )
  })

  it('notes one that comes late, and one that comes twice', () => {
    const all = events(5)
    const [first, second] = [all[BEFORE_LINES]!, all[BEFORE_LINES + 1]!]
    expect(read(Buffer.concat(all.toSpliced(BEFORE_LINES, 2, second, first)), 5).counts.reordered).toBe(1)
    expect(read(Buffer.concat(all.toSpliced(BEFORE_LINES, 0, first)), 5).counts).toEqual({ ...NONE, reordered: 1 })
  })

  it('sees any byte of a line that was changed', () => {
    const stream = Buffer.concat(events(3))
    const from = stream.indexOf('"pad":"') + 7
    fc.assert(
      fc.property(fc.nat(50), (at) => {
        const changed = Buffer.from(stream)
        changed[from + at] = changed[from + at]! ^ 1
        expect(read(changed, 3).counts.corrupt).toBe(1)
      }),
    )
  })

  it('sees a line of another run in place of its own', () => {
    const foreign = new Framer()
    foreign.lines(INIT)
    const stream = Buffer.concat(events(3).with(BEFORE_LINES, foreign.lines(fakeLine(1, BYTES, 1_000, SALT + 1))))
    expect(read(stream, 3).counts).toEqual({ ...NONE, corrupt: 1 })
  })

  it('calls a stream broken that ends without its last event, and lines lost that never came', () => {
    const all = events(5)
    expect(read(Buffer.concat(all.slice(0, -1)), 5).counts).toEqual({ ...NONE, broken: 1 })
    expect(read(Buffer.concat(all.slice(0, 4)), 5).counts).toEqual({ ...NONE, broken: 1, lost: 3 })
    expect(read(Buffer.concat(all), 7).counts).toEqual({ ...NONE, lost: 2 })
  })

  it('calls a stream broken whose last event says that its run has failed, or says nothing', () => {
    for (const data of ['{"id":"run_1","status":"failed"}', '{"status":"lost"}', '{}', 'no JSON']) {
      const stream = Buffer.concat([...events(2).slice(0, -1), Buffer.from(`id: 4\nevent: done\ndata: ${data}\n\n`)])
      expect(read(stream, 2).counts).toEqual({ ...NONE, broken: 1 })
    }
  })

  it('takes a cancelled run for a good one only where it was cancelled, and an endless one only then', () => {
    const broken = (status: 'succeeded' | 'cancelled', endless: boolean, cancelled: boolean) => {
      const reader = new Reader({ after: 0, bytes: BYTES, salt: SALT, endless })
      reader.push(Buffer.concat(events(2, status)), 1)
      return reader.end(cancelled).broken
    }
    expect([broken('cancelled', true, true), broken('succeeded', false, false)]).toEqual([0, 0])
    expect([broken('cancelled', false, false), broken('succeeded', true, true), broken('succeeded', true, false)]).toEqual([1, 1, 1])
  })

  it('counts a gap as lost, and an event behind the last one as corrupt', () => {
    const all = events(2)
    const gap = Buffer.from('id: 4\nevent: gap\ndata: {"reason":"log_cap"}\n\n')
    const done = Buffer.from('id: 5\nevent: done\ndata: {"status":"succeeded"}\n\n')
    expect(read(Buffer.concat([...all.slice(0, -1), gap, done]), 2).counts).toEqual({ ...NONE, lost: 1 })
    expect(read(Buffer.concat([...all, done]), 2).counts).toEqual({ ...NONE, corrupt: 1 })
  })
})

describe('the floor', () => {
  it('frames lines as the product does', () => {
    const line = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replaceAll(/[\r\n]/g, ''))
    fc.assert(
      fc.property(fc.array(fc.array(line, { minLength: 1, maxLength: 30 }), { maxLength: 10 }), (pieces) => {
        const framer = new Framer()
        let first = 1
        for (const lines of pieces) {
          const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(''))
          expect(framer.lines(bytes)).toEqual(Buffer.from(sseMessages(first, bytes)))
          first += lines.length
        }
      }),
    )
  })
})

describe('the histogram', () => {
  it('is right to within two per cent, also when it was made of several', () => {
    const times = fc.array(fc.integer({ min: 1, max: 10_000_000 }), { minLength: 1, maxLength: 200 })
    fc.assert(
      fc.property(times, times, fc.double({ min: 0.01, max: 1, noNaN: true }), (some, others, q) => {
        const [one, other] = [some, others].map((values) => {
          const made = new Histogram()
          for (const us of values) made.add(us)
          return made
        })
        const exact = [...some, ...others].toSorted((a, b) => a - b)
        const wanted = exact[Math.ceil(q * exact.length) - 1]! / 1_000
        expect(Math.abs(one!.merge(other!.pack()).ms(q) / wanted - 1)).toBeLessThan(0.02)
      }),
    )
  })
})
