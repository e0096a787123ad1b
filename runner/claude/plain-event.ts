/**
 * Whether a line is an event that the driver need not read: a piece of a message as it is being written. Those are most
 * of what a CLI prints, and to make objects of each was most of what a runner did with them.
 *
 * A yes is proof: the line is one JSON object of that type, without a CR, and in UTF-8 if its bytes are. A no says nothing,
 * so whatever is unusual in a line (white space, escapes in a name, exponents, great depth) is left to a real parser.
 *
 * Each function is given where something begins and tells where it ends, or `NONE`: a number takes no memory.
 */
import { isUtf8 } from 'node:buffer'

const NEWLINE = 0x0a
const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const BACKSLASH = 0x5c
const SMALL_F = 0x66
const SMALL_T = 0x74
const SMALL_U = 0x75
const OBJECT = { open: 0x7b, close: 0x7d }
const ARRAY = { open: 0x5b, close: 0x5d }
const FIRST_PRINTABLE = 0x20
const MOST_DEPTH = 64
const NONE = -1

const bytesOf = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0))
const TYPE = bytesOf('"type":')
const PLAIN_TYPE = bytesOf('"type":"stream_event"')
const [TRUE, FALSE, NULL] = [bytesOf('true'), bytesOf('false'), bytesOf('null')]
/** What may follow a backslash. */
const ESCAPED = new Set<number | undefined>(bytesOf('"\\/bfnrt'))
const HEX = new Set<number | undefined>(bytesOf('0123456789abcdefABCDEF'))
/** 0 for a byte that only goes on with the text in which it is. */
const ENDS_TEXT = Uint8Array.from({ length: 256 }, (_, byte) => (byte < FIRST_PRINTABLE || byte === QUOTE || byte === BACKSLASH ? 1 : 0))

export function isPlainEvent(line: Uint8Array): boolean {
  // Of a CLI that was killed the last line is cut off: that is not to be read past its end.
  return line.length > 0 && line[line.length - 1] === OBJECT.close && plainEnd(line, 0) === line.length && isUtf8(line)
}

/**
 * How many of these whole lines, each ended by `\n`, are plain events, from the one that begins at `from` to the first that
 * is none, and where that begins.
 *
 * Whole, because nothing here reads past a newline: code that has once read past the end of an array is up to five times as slow
 * from then on (V8 11.3).
 */
export function plainLines(lines: Uint8Array, from: number): { count: number; end: number } {
  let count = 0
  let at = from
  while (at < lines.length) {
    const newline = plainEnd(lines, at)
    if (newline === NONE || lines[newline] !== NEWLINE) break
    count++
    at = newline + 1
  }
  return { count, end: at }
}

function plainEnd(line: Uint8Array, from: number): number {
  if (line[from] !== OBJECT.open) return NONE
  let hasType = false
  let at = from
  do {
    at++
    if (line[at + 1] === SMALL_T && wordEnd(line, at, TYPE) !== NONE) {
      // With two of them the last one counts, and that is for a parser to say.
      if (hasType) return NONE
      hasType = true
      at = wordEnd(line, at, PLAIN_TYPE)
    } else at = fieldEnd(line, at, true, 1)
    if (at === NONE) return NONE
  } while (line[at] === COMMA)
  return hasType && line[at] === OBJECT.close ? at + 1 : NONE
}

function objectEnd(line: Uint8Array, from: number, depth: number): number {
  if (line[from + 1] === OBJECT.close) return from + 2
  let at = from
  do {
    at = fieldEnd(line, at + 1, false, depth)
    if (at === NONE) return NONE
  } while (line[at] === COMMA)
  return line[at] === OBJECT.close ? at + 1 : NONE
}

function fieldEnd(line: Uint8Array, from: number, plainly: boolean, depth: number): number {
  const name = textEnd(line, from, plainly)
  return name === NONE || line[name] !== COLON ? NONE : valueEnd(line, name + 1, depth)
}

function arrayEnd(line: Uint8Array, from: number, depth: number): number {
  if (line[from + 1] === ARRAY.close) return from + 2
  let at = from
  do {
    at = valueEnd(line, at + 1, depth)
    if (at === NONE) return NONE
  } while (line[at] === COMMA)
  return line[at] === ARRAY.close ? at + 1 : NONE
}

function valueEnd(line: Uint8Array, from: number, depth: number): number {
  const byte = line[from]
  if (byte === QUOTE) return textEnd(line, from, false)
  if (byte === OBJECT.open) return depth < MOST_DEPTH ? objectEnd(line, from, depth + 1) : NONE
  if (byte === ARRAY.open) return depth < MOST_DEPTH ? arrayEnd(line, from, depth + 1) : NONE
  if (byte === MINUS || isDigit(byte)) return numberEnd(line, from)
  return wordEnd(line, from, byte === SMALL_T ? TRUE : byte === SMALL_F ? FALSE : NULL)
}

/** `plainly`: without escapes, so that no two spellings are the same name. */
function textEnd(line: Uint8Array, from: number, plainly: boolean): number {
  if (line[from] !== QUOTE) return NONE
  for (let at = from + 1; at < line.length; ) {
    let byte = line[at]!
    while (ENDS_TEXT[byte] === 0) byte = line[++at]!
    if (byte === QUOTE) return at + 1
    const length = byte === BACKSLASH && !plainly ? escapeLength(line, at) : 0
    if (length === 0) return NONE
    at += length
  }
  return NONE
}

function numberEnd(line: Uint8Array, from: number): number {
  const first = line[from] === MINUS ? from + 1 : from
  const end = digitsEnd(line, first)
  if (end === first || (end > first + 1 && line[first] === ZERO)) return NONE
  if (line[end] !== DOT) return end
  const behind = digitsEnd(line, end + 1)
  return behind === end + 1 ? NONE : behind
}

function digitsEnd(line: Uint8Array, from: number): number {
  let at = from
  while (isDigit(line[at])) at++
  return at
}

function wordEnd(line: Uint8Array, from: number, word: Uint8Array): number {
  for (let i = 0; i < word.length; i++) if (line[from + i] !== word[i]) return NONE
  return from + word.length
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE
}

/** 0 where it is none. */
function escapeLength(line: Uint8Array, at: number): number {
  if (line[at + 1] !== SMALL_U) return ESCAPED.has(line[at + 1]) ? 2 : 0
  return HEX.has(line[at + 2]) && HEX.has(line[at + 3]) && HEX.has(line[at + 4]) && HEX.has(line[at + 5]) ? 6 : 0
}
