/**
 * What a CLI prints, cut into pieces: plain events as many at a time as there are one behind the other, which nobody has to
 * look at again, and every other line by itself.
 */
import { isUtf8 } from 'node:buffer'
import { LineSplitter, type Line } from '../../shared/lines.ts'
import { plainLines } from './plain-event.ts'

/** `plain`: whole lines, each ended by `\n` and a plain event. */
export type Plain = { plain: Uint8Array; count: number }
export type Piece = Line | Plain

const NEWLINE = 0x0a

export class Pieces {
  readonly #lines = new LineSplitter()

  /** Returns what this chunk completes. They may be views of it, so its memory must not be written again. */
  push(chunk: Uint8Array): Piece[] {
    const begin = this.#lines.isWithinLine ? chunk.indexOf(NEWLINE) + 1 : 0
    const end = chunk.lastIndexOf(NEWLINE) + 1
    const whole = chunk.subarray(begin, end)
    // Of all at once, which takes next to nothing. Where it is not so, it is for each line to say.
    if (!isUtf8(whole)) return this.#lines.push(chunk)
    const pieces: Piece[] = this.#lines.push(chunk.subarray(0, begin))
    for (let at = 0; at < whole.length; ) {
      const found = plainLines(whole, at)
      const next = found.count > 0 ? found.end : whole.indexOf(NEWLINE, at) + 1
      const bytes = whole.subarray(at, next)
      if (found.count > 0) pieces.push({ plain: bytes, count: found.count })
      else pieces.push(...this.#lines.push(bytes))
      at = next
    }
    this.#lines.push(chunk.subarray(end))
    return pieces
  }

  /** The last line, if it lacks its `\n`. */
  end(): Piece[] {
    return this.#lines.end()
  }
}
