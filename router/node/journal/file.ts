/**
 * One file of the journal: records that are on disk when `write` resolves, and that are read back up to the first one that
 * a crash cut short. What they mean is the caller's business.
 *
 * The file grows in large steps and is used again and again, since to grow it with each write would cost the disk a second
 * one. So behind the newest record lie old ones: each use of the file has a salt of its own, from which the checksum of
 * the first record follows, and that of each other one from the record before it.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, rm, type FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'

const MAGIC = 0x52_59_4a_31
/** Magic, number of the use, salt, and the checksum of these. */
const HEAD_BYTES = 16
/** Length and checksum. */
const RECORD_HEAD_BYTES = 8
const STEP_BYTES = 1024 * 1024

export type Records = { readonly use: number; readonly records: readonly Buffer[] }

export class JournalFile {
  readonly #path: string
  readonly #handle: FileHandle
  #size: number
  /** Of the use that has not been written yet. */
  #head: Buffer | undefined
  /** Where the next record goes. */
  #end = 0
  /** What the checksum of the next record begins with. */
  #sum = 0

  private constructor(path: string, handle: FileHandle, size: number) {
    this.#path = path
    this.#handle = handle
    this.#size = size
  }

  /** One that only its owner can read. What it holds stays until the first write. */
  static async open(path: string): Promise<JournalFile> {
    // With O_DSYNC a write is on disk when it is done, in one visit to the thread pool instead of two.
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_DSYNC, 0o600)
    try {
      return new JournalFile(path, handle, (await handle.stat()).size)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Bytes in use. */
  get end(): number {
    return this.#end
  }

  /** From here on the file is empty. `use` grows from one use of any file to the next, so that a reader knows their order. */
  begin(use: number): void {
    const head = Buffer.alloc(HEAD_BYTES)
    head.writeUInt32BE(MAGIC, 0)
    head.writeUInt32BE(use, 4)
    randomBytes(4).copy(head, 8)
    head.writeUInt32BE(crc32(head.subarray(0, 12)), 12)
    this.#head = head
    this.#end = 0
    this.#sum = head.readUInt32BE(12)
  }

  /**
   * All of these, in this order; resolves to them as they were written, views of one buffer. When it rejects some of them may
   * be there after a crash, but whatever is written next is written over them. One write at a time, the first after `begin`.
   */
  async write(records: readonly (readonly Uint8Array[])[]): Promise<Buffer[]> {
    const pieces: Uint8Array[] = this.#head ? [this.#head] : []
    const lengths: number[] = []
    let sum = this.#sum
    for (const record of records) {
      const head = Buffer.allocUnsafe(RECORD_HEAD_BYTES)
      const length = record.reduce((bytes, piece) => bytes + piece.length, 0)
      sum = record.reduce((before, piece) => crc32(piece, before), sum)
      head.writeUInt32BE(length, 0)
      head.writeUInt32BE(sum, 4)
      pieces.push(head, ...record)
      lengths.push(length)
    }
    // One piece: a vector of thousands of small ones costs more than to copy them.
    const bytes = Buffer.concat(pieces)
    while (this.#size < this.#end + bytes.length) this.#size += await this.#put(Buffer.alloc(STEP_BYTES), this.#size)
    await this.#put(bytes, this.#end)
    let at = this.#head?.length ?? 0
    this.#head = undefined
    this.#end += bytes.length
    this.#sum = sum
    return lengths.map((length) => {
      at += RECORD_HEAD_BYTES + length
      return bytes.subarray(at - length, at)
    })
  }

  async #put(bytes: Buffer, to: number): Promise<number> {
    let at = 0
    while (at < bytes.length) at += (await this.#handle.write(bytes, at, bytes.length - at, to + at)).bytesWritten
    return at
  }

  /** What was written since the newest `begin`, as far as it is whole; undefined if nothing ever was. */
  async read(): Promise<Records | undefined> {
    const bytes = await this.#handle.readFile()
    if (bytes.length < HEAD_BYTES || bytes.readUInt32BE(0) !== MAGIC) return undefined
    if (crc32(bytes.subarray(0, 12)) !== bytes.readUInt32BE(12)) return undefined
    const records: Buffer[] = []
    let sum = bytes.readUInt32BE(12)
    for (let at = HEAD_BYTES; at + RECORD_HEAD_BYTES <= bytes.length; ) {
      const length = bytes.readUInt32BE(at)
      const record = bytes.subarray(at + RECORD_HEAD_BYTES, at + RECORD_HEAD_BYTES + length)
      sum = crc32(record, sum)
      if (length === 0 || record.length < length || sum !== bytes.readUInt32BE(at + 4)) break
      records.push(record)
      at += RECORD_HEAD_BYTES + length
    }
    return { use: bytes.readUInt32BE(4), records }
  }

  /** `unlink`: nobody needs it any more. */
  async close(unlink: boolean): Promise<void> {
    await this.#handle.close()
    if (unlink) await rm(this.#path, { force: true })
  }
}
