import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LINE_CAP } from './limits.ts'
import { LineSplitter, type Line } from './lines.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

function split(chunks: readonly Uint8Array[], cap?: number): Line[] {
  const splitter = new LineSplitter(cap)
  return [...chunks.flatMap((chunk) => splitter.push(chunk)), ...splitter.end()]
}

/** Cuts the bytes at the given places, which may be the same or past the end. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const edges = [0, ...places.map((place) => Math.min(place, bytes.length)).toSorted((a, b) => a - b), bytes.length]
  return edges.slice(1).map((edge, at) => bytes.slice(edges[at], edge))
}

/** Few values, so that line ends are frequent. */
const someBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => bytes.map((byte) => (byte % 5 === 0 ? 0x0a : byte)))
const places = fc.array(fc.nat(220), { maxLength: 12 })

describe('LineSplitter', () => {
  it('gives the same lines wherever the chunks are cut', () => {
    fc.assert(
      fc.property(someBytes, places, fc.integer({ min: 1, max: 40 }), (bytes, at, cap) => {
        expect(split(cut(bytes, at), cap)).toEqual(split([bytes], cap))
      }),
    )
  })

  it('loses no byte and changes none', () => {
    fc.assert(
      fc.property(someBytes, places, (bytes, at) => {
        const lines = split(cut(bytes, at)).map((line) => ('bytes' in line ? [...line.bytes] : []))
        const joined = lines.flatMap((line) => [...line, 0x0a])
        expect(bytes.length === 0 || bytes.at(-1) === 0x0a ? joined : joined.slice(0, -1)).toEqual([...bytes])
      }),
    )
  })

  it('counts a line past the cap instead of keeping it, and goes on with the next', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(20), { maxLength: 8 }), places, fc.integer({ min: 1, max: 12 }), (lengths, at, cap) => {
        const bytes = encoder.encode(lengths.map((length) => `${'x'.repeat(length)}\n`).join(''))
        const sizes = split(cut(bytes, at), cap).map((line) => ('bytes' in line ? line.bytes.length : { tooLong: line.tooLong }))
        expect(sizes).toEqual(lengths.map((length) => (length > cap ? { tooLong: length } : length)))
      }),
    )
  })

  it('takes a line of exactly the cap and drops one of a byte more', () => {
    expect(split([encoder.encode('abcd\nabcde\n')], 4)).toEqual([{ bytes: encoder.encode('abcd') }, { tooLong: 5 }])
  })

  it('keeps characters whole that are cut at every byte', () => {
    const lines = split(cut(encoder.encode('日本語\u2028€\r\nß'), Array.from({ length: 30 }, (_, at) => at)))
    expect(lines.map((line) => ('bytes' in line ? decoder.decode(line.bytes) : ''))).toEqual(['日本語\u2028€\r', 'ß'])
  })

  it('returns lines that stay as they are while more chunks arrive', () => {
    const splitter = new LineSplitter()
    const [first] = splitter.push(encoder.encode('one\ntwo'))
    splitter.push(encoder.encode(' and three\nfour\n'))
    expect(first).toEqual({ bytes: encoder.encode('one') })
  })

  it('joins a line of the full cap out of small chunks in linear time', () => {
    const chunk = new Uint8Array(4096).fill(0x61)
    const splitter = new LineSplitter()
    const startedAt = performance.now()
    for (let sent = 0; sent < LINE_CAP; sent += chunk.length) splitter.push(chunk)
    const [line] = splitter.push(Uint8Array.of(0x0a))
    expect(line && 'bytes' in line && line.bytes.length).toBe(LINE_CAP)
    // Quadratic joining copies 32 GiB here; this takes some ten milliseconds.
    expect(performance.now() - startedAt).toBeLessThan(2_000)
  })
})
