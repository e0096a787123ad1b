/** One row of the event log as a record of the journal: what the row is, in fixed places, then its bytes as they came. */
import type { WholeRow } from './held.ts'

export type JournalRow = { readonly run: string; readonly fence: number; readonly row: WholeRow }

const KINDS = ['ev', 'mark'] as const
/** Kind, fence, first, count, length of the run's name. */
const HEAD_BYTES = 1 + 6 + 6 + 4 + 1

/** Two pieces, so that the bytes need not be copied twice. */
export function encodeRow({ run, fence, row }: JournalRow): Uint8Array[] {
  const head = Buffer.allocUnsafe(HEAD_BYTES + run.length)
  head.writeUInt8(KINDS.indexOf(row.kind), 0)
  head.writeUIntBE(fence, 1, 6)
  head.writeUIntBE(row.first, 7, 6)
  head.writeUInt32BE(row.count, 13)
  head.writeUInt8(run.length, 17)
  head.write(run, HEAD_BYTES, 'latin1')
  return [head, row.bytes]
}

/** The bytes of the row are a view. Undefined: it was written by a router that is not this one. */
export function decodeRow(record: Buffer): JournalRow | undefined {
  const kind = KINDS[record.readUInt8(0)]
  if (record.length < HEAD_BYTES || kind === undefined) return undefined
  const runEnd = HEAD_BYTES + record.readUInt8(17)
  const [fence, first, count] = [record.readUIntBE(1, 6), record.readUIntBE(7, 6), record.readUInt32BE(13)]
  const row = { first, part: 0, parts: 1, count, kind, bytes: record.subarray(runEnd) }
  return { run: record.toString('latin1', HEAD_BYTES, runEnd), fence, row }
}
