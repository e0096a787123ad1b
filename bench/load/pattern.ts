/**
 * The lines of the fake CLI: what is in them follows from their number, their size, the salt of their run and a time, so that
 * they can be made elsewhere and checked without keeping anything. fake/claude.c writes the same.
 */
const SIGNS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
export const LINE_HEAD = Buffer.from('{"type":"stream_event","n":')
const TAIL = '"}'

let made = Buffer.alloc(0)

/** At least `bytes` of the pattern from each of its signs on. */
export function pattern(bytes: number): Buffer {
  const size = bytes + SIGNS.length
  if (made.length < size) made = Buffer.from(SIGNS.repeat(Math.ceil(size / SIGNS.length)))
  return made
}

export const patternStart = (n: number): number => n % SIGNS.length

/** Line `n` of so many bytes, with its `\n`, printed at `atUs` of the monotonic clock by the run with that `salt`. */
export function fakeLine(n: number, bytes: number, atUs: number, salt: number): Buffer {
  const head = `{"type":"stream_event","n":${n},"salt":${salt},"at":${atUs},"pad":"`
  const filling = Math.max(0, bytes - head.length - TAIL.length - 1)
  const start = patternStart(n)
  return Buffer.from(`${head}${pattern(filling).toString('latin1', start, start + filling)}${TAIL}\n`, 'latin1')
}

export const nowUs = (): number => Number(process.hrtime.bigint() / 1_000n)
