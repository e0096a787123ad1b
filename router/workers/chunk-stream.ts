/**
 * Pages of a run's log on their way from its object to the Worker that frames them: each chunk as its kind, the number of
 * its first event, how many, its length in bytes, and its bytes. Numbers are little-endian.
 */
import type { EventChunk, Page } from '../ports.ts'

const HEAD = 17
const KINDS = ['ev', 'mark'] as const

function encodeChunks(chunks: readonly EventChunk[]): Uint8Array {
  const page = new Uint8Array(chunks.reduce((sum, { bytes }) => sum + HEAD + bytes.length, 0))
  const view = new DataView(page.buffer)
  let at = 0
  for (const { kind, first, count, bytes } of chunks) {
    view.setUint8(at, KINDS.indexOf(kind))
    view.setFloat64(at + 1, first, true)
    view.setUint32(at + 9, count, true)
    view.setUint32(at + 13, bytes.length, true)
    page.set(bytes, at + HEAD)
    at += HEAD + bytes.length
  }
  return page
}

/** These pages as one body, read no faster than they are taken. `end` is called once nobody reads any more, with or without an error. */
export function pageStream(pages: AsyncGenerator<Page, void, undefined>, end: (error?: unknown) => void): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(out) {
        try {
          const page = await pages.next()
          if (!page.done) return out.enqueue(encodeChunks(page.value))
          end()
          out.close()
        } catch (error) {
          end(error)
          out.error(new Error('the events could not be read'))
        }
      },
      cancel: () => end(),
    },
    { highWaterMark: 1 },
  )
}

/** Whole chunks out of pieces that were cut anywhere. */
export class ChunkDecoder {
  #pieces: Uint8Array[] = []
  #held = 0
  /** So many bytes make the next chunk, or its head, whole: until then nothing is copied. */
  #wanted = HEAD

  push(piece: Uint8Array): EventChunk[] {
    this.#pieces.push(piece)
    this.#held += piece.length
    if (this.#held < this.#wanted) return []
    const data = this.#pieces.length === 1 ? piece : joined(this.#pieces, this.#held)
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
    const chunks: EventChunk[] = []
    let at = 0
    this.#wanted = HEAD
    while (data.length - at >= HEAD) {
      const end = at + HEAD + view.getUint32(at + 13, true)
      if (end > data.length) {
        this.#wanted = end - at
        break
      }
      const kind = KINDS[view.getUint8(at)] ?? 'ev'
      chunks.push({
        kind,
        first: view.getFloat64(at + 1, true),
        count: view.getUint32(at + 9, true),
        bytes: data.subarray(at + HEAD, end),
      })
      at = end
    }
    this.#pieces = at === data.length ? [] : [data.subarray(at)]
    this.#held = data.length - at
    return chunks
  }
}

function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const all = new Uint8Array(length)
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return all
}
