/**
 * The on-disk spool of one run: an append-only file that outlives this process, so that nothing the CLI printed is lost
 * with it. One record is [kind u8][length u32][crc32 u32][payload], the checksum over kind, length and payload; lines and
 * marks take the next seq, 1, 2, 3 …
 *
 * Writes are plain `write()` calls: a killed runner loses nothing that was written. `sync` is for the machine's own death,
 * and the caller says when: on intent, start, exit and every second.
 */
import { closeSync, fdatasync, fstatSync, fsyncSync, ftruncateSync, openSync, readSync, unlinkSync, writevSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { crc32 } from 'node:zlib'
import { z } from 'zod'
import { RunId, SessionId, TenantId } from '../shared/ids.ts'
import type { Mark } from '../shared/marks.ts'

/** What a restarted runner must know of a run to end it properly. Never the prompt. */
export const Intent = z.object({
  run: RunId,
  fence: z.int().positive(),
  tenant: TenantId,
  session: SessionId,
  /** The environment marker of its processes: how orphans are found. */
  marker: z.uuid(),
})
export type Intent = z.infer<typeof Intent>

const KIND = { intent: 1, starting: 2, line: 3, mark: 4 } as const
const HEADER = 9
/** Kind and length: a flipped kind would renumber what follows. */
const CHECKED_HEADER = 5
/** Read at once when a spool is opened after a restart. */
const SCAN_BYTES = 1024 * 1024

/** The next thing to send from a position: whole lines, or one mark. */
export type SpoolRead = { kind: 'lines'; first: number; lines: Uint8Array[] } | { kind: 'mark'; seq: number; mark: Mark }

const datasync = promisify(fdatasync)
const decoder = new TextDecoder()

export class Spool {
  readonly path: string
  readonly intent: Intent
  readonly #fd: number
  /** Offset of each seq's payload, and its length; index 0 is seq 1. */
  readonly #offsets: number[] = []
  readonly #lengths: number[] = []
  readonly #marks = new Set<number>()
  #end = 0
  #starting = false
  #torn = false
  #dirty = false
  #closed = false

  private constructor(path: string, intent: Intent, fd: number) {
    this.path = path
    this.intent = intent
    this.#fd = fd
  }

  /** The intent is on disk when this returns. Throws if the run has a spool already. */
  static create(path: string, intent: Intent): Spool {
    const spool = new Spool(path, intent, openSync(path, 'ax+', 0o600))
    try {
      spool.#write(KIND.intent, Buffer.from(JSON.stringify(intent)))
      fsyncSync(spool.#fd)
      syncFolder(dirname(path))
    } catch (error) {
      spool.remove()
      throw error
    }
    return spool
  }

  /** After a restart. A torn last record was never acknowledged by anybody and is cut off. Undefined: not even an intent. */
  static open(path: string): Spool | undefined {
    const fd = openSync(path, 'a+')
    const records = scan(fd)
    const first = records.next()
    const intent = first.done || first.value.kind !== KIND.intent ? undefined : Intent.safeParse(parseJson(first.value.payload()))
    if (!intent?.success || first.done) {
      closeSync(fd)
      return undefined
    }
    const spool = new Spool(path, intent.data, fd)
    spool.#end = first.value.next
    for (const record of records) {
      spool.#end = record.next
      if (record.kind === KIND.starting) spool.#starting = true
      else spool.#index(record.kind, record.offset, record.length)
    }
    spool.#torn = fstatSync(fd).size > spool.#end
    ftruncateSync(fd, spool.#end)
    return spool
  }

  /** The newest seq, 0 while there is none. */
  get last(): number {
    return this.#offsets.length
  }

  get hasStarted(): boolean {
    return this.#starting
  }

  /** Something after the last whole record was cut off when it was opened: what the CLI had printed is not all here. */
  get torn(): boolean {
    return this.#torn
  }

  get bytes(): number {
    return this.#end
  }

  /** True once the last record is the exit mark. */
  get hasExit(): boolean {
    return this.#marks.has(this.last) && this.read(this.last, 1)?.kind === 'mark' && this.#markAt(this.last).kind === 'exit'
  }

  /** Must be on disk before the prompt is written: a start that nobody remembers could be done twice. */
  async starting(): Promise<void> {
    this.#write(KIND.starting, new Uint8Array())
    this.#starting = true
    await this.sync()
  }

  line(bytes: Uint8Array): number {
    this.#write(KIND.line, bytes)
    return this.last
  }

  mark(mark: Mark): number {
    this.#write(KIND.mark, Buffer.from(JSON.stringify(mark)))
    return this.last
  }

  async sync(): Promise<void> {
    if (!this.#dirty || this.#closed) return
    this.#dirty = false
    await datasync(this.#fd).catch((error: unknown) => {
      // Closed meanwhile: nobody waits for it any more.
      if (!this.#closed) throw error
    })
  }

  /** Up to about `maxBytes` of lines, at least one; or one mark. Undefined past the end. */
  read(seq: number, maxBytes: number): SpoolRead | undefined {
    if (seq > this.last) return undefined
    if (this.#marks.has(seq)) return { kind: 'mark', seq, mark: this.#markAt(seq) }
    const lines: Uint8Array[] = []
    let size = 0
    for (let at = seq; at <= this.last && !this.#marks.has(at); at++) {
      const length = this.#lengths[at - 1]! + 1
      if (lines.length > 0 && size + length > maxBytes) break
      lines.push(this.#payload(at))
      size += length
    }
    return { kind: 'lines', first: seq, lines }
  }

  /** Payload bytes after `seq`: what is still to be acknowledged. */
  bytesAfter(seq: number): number {
    const from = this.#offsets[seq]
    return from === undefined ? 0 : this.#end - from
  }

  get isClosed(): boolean {
    return this.#closed
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#fd)
  }

  remove(): void {
    this.close()
    try {
      unlinkSync(this.path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }

  #markAt(seq: number): Mark {
    return parseJson(this.#payload(seq)) as Mark
  }

  #payload(seq: number): Uint8Array {
    const bytes = new Uint8Array(this.#lengths[seq - 1]!)
    readFully(this.#file, bytes, this.#offsets[seq - 1]!)
    return bytes
  }

  /** Its number belongs to another file as soon as this one is closed: the spool of another run, as likely as not. */
  get #file(): number {
    if (this.#closed) throw new Error('the spool is closed')
    return this.#fd
  }

  #write(kind: number, payload: Uint8Array): void {
    const file = this.#file
    const header = Buffer.allocUnsafe(HEADER)
    header.writeUInt8(kind, 0)
    header.writeUInt32LE(payload.length, 1)
    header.writeUInt32LE(crc32(payload, crc32(header.subarray(0, CHECKED_HEADER))), CHECKED_HEADER)
    try {
      const wanted = HEADER + payload.length
      const written = writevSync(file, [header, payload])
      if (written !== wanted) throw Object.assign(new Error(`only ${written} of ${wanted} bytes were written to the spool`), { code: 'ENOSPC' })
    } catch (error) {
      // A half record would swallow the next one.
      ftruncateSync(file, this.#end)
      throw error
    }
    if (kind === KIND.line || kind === KIND.mark) this.#index(kind, this.#end + HEADER, payload.length)
    this.#end += HEADER + payload.length
    this.#dirty = true
  }

  #index(kind: number, offset: number, length: number): void {
    this.#offsets.push(offset)
    this.#lengths.push(length)
    if (kind === KIND.mark) this.#marks.add(this.#offsets.length)
  }
}

type Record = { kind: number; offset: number; length: number; next: number; payload: () => Uint8Array }

/** Every whole record; ends at the first that is torn. */
function* scan(fd: number): Generator<Record> {
  const { size } = fstatSync(fd)
  const header = new Uint8Array(HEADER)
  const view = new DataView(header.buffer)
  for (let at = 0; at + HEADER <= size; ) {
    readFully(fd, header, at)
    const kind = view.getUint8(0)
    const length = view.getUint32(1, true)
    const offset = at + HEADER
    if (kind < KIND.intent || kind > KIND.mark || offset + length > size) return
    if (checksum(fd, offset, length, crc32(header.subarray(0, CHECKED_HEADER))) !== view.getUint32(CHECKED_HEADER, true)) return
    const payload = () => {
      const bytes = new Uint8Array(length)
      readFully(fd, bytes, offset)
      return bytes
    }
    at = offset + length
    yield { kind, offset, length, next: at, payload }
  }
}

function checksum(fd: number, offset: number, length: number, sum: number): number {
  const chunk = new Uint8Array(Math.min(length, SCAN_BYTES))
  for (let at = 0; at < length; at += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, length - at))
    readFully(fd, part, offset + at)
    sum = crc32(part, sum)
  }
  return sum
}

function readFully(fd: number, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length; ) {
    const n = readSync(fd, into, done, into.length - done, position + done)
    if (n === 0) throw new Error('the spool is shorter than its index')
    done += n
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes))
  } catch {
    return undefined
  }
}
