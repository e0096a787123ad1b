import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LineSplitter, linesIn } from '../../shared/lines.ts'
import { isPlainEvent } from './plain-event.ts'
import { Pieces, type Piece } from './pieces.ts'

const bytesOf = (text: string): Uint8Array => Buffer.from(text)
const plain = fc.constantFrom('{"type":"stream_event","n":1}', '{"event":{"text":"€ 😀 \\n"},"type":"stream_event"}', '{"type":"stream_event"}').map(bytesOf)
const other = fc.constantFrom('', '{}', '{"type":"result"}', '{"type":"stream_event","n":01}', '{"type":"stream_event","a":"\r"}', '€', 'x'.repeat(300)).map(bytesOf)
const noUtf8 = fc.constant(Buffer.concat([bytesOf('{"type":"stream_event","a":"'), Buffer.from([0xc3]), bytesOf('"}')]))
const printed = fc
  .array(fc.oneof({ weight: 6, arbitrary: plain }, { weight: 3, arbitrary: other }, { weight: 1, arbitrary: noUtf8 }), { maxLength: 30 })
  .chain((lines) => fc.boolean().map((isWhole) => Buffer.concat(lines.flatMap((line, i) => (isWhole || i + 1 < lines.length ? [line, bytesOf('\n')] : [line])))))
const places = fc.array(fc.nat(2_000), { maxLength: 8 })

function cut(bytes: Uint8Array, at: readonly number[]): Uint8Array[] {
  const edges = [0, ...at.map((place) => place % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]
  return edges.slice(1).map((edge, i) => bytes.slice(edges[i], edge))
}

function piecesOf(chunks: readonly Uint8Array[]): Piece[] {
  const pieces = new Pieces()
  return [...chunks.flatMap((chunk) => pieces.push(chunk)), ...pieces.end()]
}

describe('what a CLI prints, in pieces', () => {
  it('is every line of it, in order, wherever it is cut', () => {
    fc.assert(
      fc.property(printed, places, (bytes, at) => {
        const splitter = new LineSplitter()
        const expected = [...splitter.push(bytes), ...splitter.end()].map((line) => ('bytes' in line ? Buffer.from(line.bytes) : line))
        const found = piecesOf(cut(bytes, at)).flatMap((piece) => ('plain' in piece ? linesIn(piece.plain) : 'bytes' in piece ? [piece.bytes] : []))
        expect(found.map((line) => Buffer.from(line))).toEqual(expected)
      }),
    )
  })

  it('has nothing but plain events where several are one piece, and says how many they are', () => {
    fc.assert(
      fc.property(printed, places, (bytes, at) => {
        for (const piece of piecesOf(cut(bytes, at))) {
          if (!('plain' in piece)) continue
          const lines = linesIn(piece.plain)
          expect([lines.length, lines.every((line) => isPlainEvent(line)), piece.plain.at(-1)]).toEqual([piece.count, true, 0x0a])
        }
      }),
    )
  })

  it('is one piece for all plain events of a chunk that stand together', () => {
    const event = '{"type":"stream_event","n":1}\n'
    expect(piecesOf([bytesOf(`${event}${event}{}\n${event}${event.slice(0, 5)}`), bytesOf(event.slice(5) + event)])).toEqual([
      { plain: Buffer.from(event + event), count: 2 },
      { bytes: bytesOf('{}') },
      { plain: Buffer.from(event), count: 1 },
      { bytes: Uint8Array.from(bytesOf(event.slice(0, -1))) },
      { plain: Buffer.from(event), count: 1 },
    ])
  })
})
