/**
 * Bytes in, lines out. It splits on the byte 0x0a only and never decodes, so a character cut at a chunk border stays whole.
 *
 * What a line means, and what becomes of one that is too long, is the caller's business.
 */
import { LINE_CAP } from './limits.ts'

/** A line without its `\n`, or the size in bytes of one that went past the cap and was not kept. */
export type Line = { bytes: Uint8Array } | { tooLong: number }

const NEWLINE = 0x0a

export class LineSplitter {
  readonly #cap: number
  /** The beginning of the current line, as views of earlier chunks: joined once, so a long line costs one copy. */
  #held: Uint8Array[] = []
  /** Bytes of the current line so far, kept or not. */
  #length = 0

  constructor(cap: number = LINE_CAP) {
    this.#cap = cap
  }

  /** The next bytes go on with a line. */
  get isWithinLine(): boolean {
    return this.#length > 0
  }

  /** Returns the lines that this chunk completes. They may be views of it, so its memory must not be written again. */
  push(chunk: Uint8Array): Line[] {
    const lines: Line[] = []
    let from = 0
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      const piece = chunk.subarray(from, at)
      from = at + 1
      if (this.#length === 0 && piece.length <= this.#cap) {
        lines.push({ bytes: piece })
        continue
      }
      this.#take(piece)
      lines.push(this.#finish())
    }
    this.#take(chunk.subarray(from))
    return lines
  }

  /** The last line, if it lacks its `\n`. */
  end(): Line[] {
    return this.#length === 0 ? [] : [this.#finish()]
  }

  #take(piece: Uint8Array): void {
    this.#length += piece.length
    if (this.#length > this.#cap) this.#held = []
    else if (piece.length > 0) this.#held.push(piece)
  }

  #finish(): Line {
    const held = this.#held
    const length = this.#length
    this.#held = []
    this.#length = 0
    return length > this.#cap ? { tooLong: length } : { bytes: joined(held, length) }
  }
}

/** Of whole lines, each ended by `\n`, every one without it. */
export function linesIn(bytes: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = []
  for (let from = 0, at = bytes.indexOf(NEWLINE); at >= 0; from = at + 1, at = bytes.indexOf(NEWLINE, from)) lines.push(bytes.subarray(from, at))
  return lines
}

/** Of all pieces one, `length` bytes; a piece that is alone is not copied. */
export function joined(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const [first] = pieces
  if (first && pieces.length === 1) return first
  const whole = new Uint8Array(length)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}
