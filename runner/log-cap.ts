/**
 * How much of the output of one run is kept. The first line that does not fit, and everything after it, is only counted:
 * what is missing is one piece, in front of the ending. Lines that must be kept are, and count.
 */
import type { GapMark, RawMark, StderrMark } from '../shared/marks.ts'

/** Of a mark without its text: many of them are output too. */
const MARK_BYTES = 64

export class LogCap {
  readonly #max: number
  #kept = 0
  #dropped = 0
  #full = false

  constructor(maxBytes: number) {
    this.#max = maxBytes
  }

  /** Bytes that are missing and not told of. */
  get dropped(): number {
    return this.#dropped
  }

  /** Lines of so many bytes together would all be taken. */
  fits(bytes: number): boolean {
    return !this.#full && this.#kept + bytes <= this.#max
  }

  takes(bytes: number, must: boolean): boolean {
    if (!must && (this.#full ||= !this.fits(bytes))) {
      this.#dropped += bytes
      return false
    }
    this.#kept += bytes
    return true
  }

  told(): void {
    this.#dropped = 0
  }
}

export function markBytes(mark: RawMark | GapMark | StderrMark): number {
  if (mark.kind === 'raw') return MARK_BYTES + mark.data.length
  return mark.kind === 'stderr' ? MARK_BYTES + mark.text.length : MARK_BYTES
}
