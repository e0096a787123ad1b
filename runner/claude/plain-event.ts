/**
 * Whether a line is an event that the driver need not read: a piece of a message as it is being written. Those are most
 * of what a CLI prints, and to make objects of each was most of what a runner did with them.
 *
 * A yes is proof: the line is one JSON object of that type, in UTF-8 and without a CR. A no says nothing, so whatever is
 * unusual in a line (white space, escapes in a name, exponents, great depth) is left to a real parser.
 */
import { isUtf8 } from 'node:buffer'

const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const BACKSLASH = 0x5c
const SMALL_U = 0x75
const OBJECT = { open: 0x7b, close: 0x7d }
const ARRAY = { open: 0x5b, close: 0x5d }
const FIRST_PRINTABLE = 0x20
const FIRST_BEYOND_ASCII = 0x80
const MOST_DEPTH = 64

const bytesOf = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0))
const TYPE = bytesOf('"type":')
const PLAIN = bytesOf('"stream_event"')
const LITERALS = ['true', 'false', 'null'].map(bytesOf)
/** What may follow a backslash. */
const ESCAPED = new Set<number | undefined>(bytesOf('"\\/bfnrt'))
const HEX = new Set<number | undefined>(bytesOf('0123456789abcdefABCDEF'))

export function isPlainEvent(line: Uint8Array): boolean {
  return line[0] === OBJECT.open && new Scan(line).isPlain()
}

/** Each of its steps says whether what it was to read is there, and goes behind it. Where it is not, the line is none. */
class Scan {
  readonly #line: Uint8Array
  #at = 0
  #types = 0
  #isAscii = true

  constructor(line: Uint8Array) {
    this.#line = line
  }

  isPlain(): boolean {
    return this.#object(1) && this.#at === this.#line.length && this.#types === 1 && (this.#isAscii || isUtf8(this.#line))
  }

  #object(depth: number): boolean {
    this.#at++
    if (this.#is(OBJECT.close)) return true
    do {
      // With two of them the last one counts, and that is for a parser to say.
      if (depth === 1 && this.#are(TYPE)) {
        this.#types++
        if (!this.#are(PLAIN)) return false
      } else if (!this.#string(depth === 1) || !this.#is(COLON) || !this.#value(depth)) return false
    } while (this.#is(COMMA))
    return this.#is(OBJECT.close)
  }

  #array(depth: number): boolean {
    this.#at++
    if (this.#is(ARRAY.close)) return true
    do {
      if (!this.#value(depth)) return false
    } while (this.#is(COMMA))
    return this.#is(ARRAY.close)
  }

  #value(depth: number): boolean {
    const byte = this.#line[this.#at]
    if (byte === QUOTE) return this.#string(false)
    if (byte === OBJECT.open) return depth < MOST_DEPTH && this.#object(depth + 1)
    if (byte === ARRAY.open) return depth < MOST_DEPTH && this.#array(depth + 1)
    // By its first byte, as what is read of a number that is none is not read again.
    return byte === MINUS || isDigit(byte) ? this.#number() : LITERALS.some((literal) => this.#are(literal))
  }

  /** `plainly`: without escapes, so that no two spellings are the same name. */
  #string(plainly: boolean): boolean {
    if (!this.#is(QUOTE)) return false
    const line = this.#line
    let at = this.#at
    let all = 0
    for (; at < line.length; at++) {
      const byte = line[at]!
      all |= byte
      if (byte === QUOTE) break
      if (byte < FIRST_PRINTABLE) return false
      if (byte !== BACKSLASH) continue
      const length = plainly ? 0 : escapeLength(line, at)
      if (length === 0) return false
      at += length - 1
    }
    if (all >= FIRST_BEYOND_ASCII) this.#isAscii = false
    this.#at = at
    return this.#is(QUOTE)
  }

  #number(): boolean {
    this.#is(MINUS)
    const leading = this.#line[this.#at]
    const digits = this.#digits()
    if (digits === 0 || (digits > 1 && leading === ZERO)) return false
    return !this.#is(DOT) || this.#digits() > 0
  }

  #digits(): number {
    const from = this.#at
    while (isDigit(this.#line[this.#at])) this.#at++
    return this.#at - from
  }

  #is(byte: number): boolean {
    if (this.#line[this.#at] !== byte) return false
    this.#at++
    return true
  }

  #are(bytes: Uint8Array): boolean {
    for (let i = 0; i < bytes.length; i++) if (this.#line[this.#at + i] !== bytes[i]) return false
    this.#at += bytes.length
    return true
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE
}

/** 0 where it is none. */
function escapeLength(line: Uint8Array, at: number): number {
  if (line[at + 1] !== SMALL_U) return ESCAPED.has(line[at + 1]) ? 2 : 0
  return HEX.has(line[at + 2]) && HEX.has(line[at + 3]) && HEX.has(line[at + 4]) && HEX.has(line[at + 5]) ? 6 : 0
}
