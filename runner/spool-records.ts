/**
 * The records of a spool: [kind u8][length u32][crc32 u32][payload], the checksum over kind, length and payload. What they
 * mean is spool.ts' business.
 */
import { fstatSync, readSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import { countNewlines } from '../shared/event-frames.ts'

export const KIND = { intent: 1, starting: 2, lines: 3, mark: 4 } as const
export const HEADER = 9
/** Kind and length: a flipped kind would renumber what follows. */
const CHECKED_HEADER = 5
/** Read at once when a spool is opened after a restart. */
const SCAN_BYTES = 1024 * 1024

export function headerOf(kind: number, payload: Uint8Array): Uint8Array {
  const header = Buffer.allocUnsafe(HEADER)
  header.writeUInt8(kind, 0)
  header.writeUInt32LE(payload.length, 1)
  header.writeUInt32LE(crc32(payload, crc32(header.subarray(0, CHECKED_HEADER))), CHECKED_HEADER)
  return header
}

/** `events`: how many seqs it takes, if it is one of events. */
export type SpoolRecord = { kind: number; offset: number; next: number; events: number; payload: () => Uint8Array }

/** Every whole record; ends at the first that is torn. */
export function* scan(fd: number): Generator<SpoolRecord> {
  const { size } = fstatSync(fd)
  const header = new Uint8Array(HEADER)
  const view = new DataView(header.buffer)
  for (let at = 0; at + HEADER <= size; ) {
    readFully(fd, header, at)
    const kind = view.getUint8(0)
    const length = view.getUint32(1, true)
    const offset = at + HEADER
    if (kind < KIND.intent || kind > KIND.mark || offset + length > size) return
    const { sum, lines } = survey(fd, offset, length, crc32(header.subarray(0, CHECKED_HEADER)))
    if (sum !== view.getUint32(CHECKED_HEADER, true) || (kind === KIND.lines && lines === 0)) return
    const payload = () => {
      const bytes = new Uint8Array(length)
      readFully(fd, bytes, offset)
      return bytes
    }
    at = offset + length
    yield { kind, offset, next: at, events: kind === KIND.lines ? lines : 1, payload }
  }
}

/** Continues the checksum over these bytes of the file, and counts their lines. */
function survey(fd: number, offset: number, length: number, before: number): { sum: number; lines: number } {
  const chunk = new Uint8Array(Math.min(length, SCAN_BYTES))
  let sum = before
  let lines = 0
  for (let at = 0; at < length; at += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, length - at))
    readFully(fd, part, offset + at)
    sum = crc32(part, sum)
    lines += countNewlines(part)
  }
  return { sum, lines }
}

export function readFully(fd: number, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length; ) {
    const n = readSync(fd, into, done, into.length - done, position + done)
    if (n === 0) throw new Error('the spool is shorter than its index')
    done += n
  }
}
