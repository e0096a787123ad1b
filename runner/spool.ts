/**
 * The on-disk spool of one run: an append-only file that outlives this process, so that nothing the CLI printed is lost
 * with it, made of records (spool-records.ts). Lines and marks take the next seq, 1, 2, 3 …; a mark is a record, and so
 * are the lines that were taken between two flushes.
 *
 * Writes are plain `write()` calls: a killed runner loses nothing that was written. When to flush is the caller's to say;
 * what was not flushed is read by nobody. `sync` is for the machine's own death: on intent, start, exit, and each second while
 * the router does not have all of it, or a mebibyte is not on the disk yet.
 */
import { closeSync, fdatasync, fstatSync, fsync, ftruncateSync, openSync, unlinkSync, writevSync } from 'node:fs'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { afterLines } from '../shared/event-frames.ts'
import { RunId, SessionId, TenantId } from '../shared/ids.ts'
import { COALESCE_BYTES } from '../shared/limits.ts'
import { joined } from '../shared/lines.ts'
import type { Mark } from '../shared/marks.ts'
import { HEADER, headerOf, KIND, readFully, scan } from './spool-records.ts'

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

const LINE_END = Uint8Array.of(0x0a)
/**
 * What no record goes past, unless it is one line: frames are made of whole records. One read of the CLI's output and the
 * line that the one before had cut fit, because a record for the few bytes beyond would be a frame of its own, and half of all.
 */
const RECORD_BYTES = 2 * COALESCE_BYTES

/** The next thing to send from a position: `count` whole lines, each ended by `\n`, or one mark. */
export type SpoolRead = { kind: 'lines'; first: number; count: number; bytes: Uint8Array } | { kind: 'mark'; seq: number; mark: Mark }

const datasync = promisify(fdatasync)
const sync = promisify(fsync)
const decoder = new TextDecoder()

export class Spool {
  readonly path: string
  readonly intent: Intent
  readonly #fd: number
  /** The first seq of each record of events, and where its payload begins. Between them lies nothing but their headers. */
  readonly #firsts: number[] = []
  readonly #offsets: number[] = []
  readonly #marks = new Set<number>()
  /** Taken and not yet written: pieces of lines, how many lines they make, and their size. */
  #taken: Uint8Array[] = []
  #takenLines = 0
  #takenBytes = 0
  /** The newest lines until they are read, which as a rule is at once: then they need not come from the file. */
  #unread: { readonly record: number; readonly bytes: Uint8Array } | undefined
  #last = 0
  #end = 0
  #starting = false
  #torn = false
  #unsynced = 0
  /** The newest sync: it is for all but what is unsynced. */
  #synced = Promise.resolve()
  #closed = false

  private constructor(path: string, intent: Intent, fd: number) {
    this.path = path
    this.intent = intent
    this.#fd = fd
  }

  /** The intent is written, and outlives this process; `intended` is for the machine. Throws if the run has a spool already. */
  static create(path: string, intent: Intent): Spool {
    const spool = new Spool(path, intent, openSync(path, 'ax+', 0o600))
    try {
      spool.#write(KIND.intent, Buffer.from(JSON.stringify(intent)))
    } catch (error) {
      spool.remove()
      throw error
    }
    return spool
  }

  /**
   * After a restart. A torn last record is cut off: after a kill nobody has acknowledged it; after a power cut the router may
   * have it, and more, and then ends the run. Undefined: not even an intent.
   */
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
      else spool.#index(record.kind, record.offset, record.events)
    }
    spool.#torn = fstatSync(fd).size > spool.#end
    ftruncateSync(fd, spool.#end)
    return spool
  }

  /** The newest seq that was written, 0 while there is none. */
  get last(): number {
    return this.#last
  }

  /** The newest seq that was given, written or not. */
  get lastTaken(): number {
    return this.#last + this.#takenLines
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

  /** How many bytes were written since the last sync began. */
  get unsynced(): number {
    return this.#unsynced
  }

  isMark(seq: number): boolean {
    return this.#marks.has(seq)
  }

  /** True once the last record is the exit mark. */
  get hasExit(): boolean {
    return this.#marks.has(this.#last) && this.#markAt(this.#firsts.length - 1).kind === 'exit'
  }

  /** Resolves when the intent is on disk, and the name of its file in the folder. Before that nobody is to be promised anything. */
  async intended(): Promise<void> {
    // Together: where the one brings the other along, neither is waited for twice.
    await Promise.all([this.sync(), syncFolder(dirname(this.path))])
  }

  /** Must be on disk before the prompt is written: a start that nobody remembers could be done twice. */
  async starting(): Promise<void> {
    this.#write(KIND.starting, new Uint8Array())
    this.#starting = true
    await this.sync()
  }

  /**
   * Takes a line, which nobody may write to any more, and gives it its seq; it is in the file after the next `flush`. Throws
   * when there is no room for what came before it: then it was not taken.
   */
  line(bytes: Uint8Array): number {
    this.#makeRoom(bytes.length + 1)
    this.#taken.push(bytes, LINE_END)
    this.#takenLines++
    return this.lastTaken
  }

  /** As `line`, for `count` lines that have their `\n`, no more of them than one read of the CLI's output gives. */
  lines(bytes: Uint8Array, count: number): void {
    this.#makeRoom(bytes.length)
    this.#taken.push(bytes)
    this.#takenLines += count
  }

  /** What was taken is in the file. Throws when it does not fit: then none of it is, and its seqs are given again. */
  flush(): void {
    if (this.#taken.length === 0) return
    const count = this.#takenLines
    const bytes = joined(this.#taken, this.#takenBytes)
    // Not kept for another time: an ending needs less room, and waits behind it.
    this.#taken = []
    this.#takenLines = 0
    this.#takenBytes = 0
    this.#write(KIND.lines, bytes, count)
    this.#unread = { record: this.#firsts.length - 1, bytes }
  }

  /** In the file when this returns, behind all lines. If it throws there is no such mark. */
  mark(mark: Mark): number {
    this.flush()
    this.#write(KIND.mark, Buffer.from(JSON.stringify(mark)), 1)
    return this.#last
  }

  /** Resolves when all that was written is on disk; where an earlier call sees to that, with that one, or rejects with it. */
  async sync(): Promise<void> {
    if (this.#closed) return
    if (this.#unsynced > 0) this.#synced = datasync(this.#fd)
    this.#unsynced = 0
    await this.#synced.catch((error: unknown) => {
      // Closed meanwhile: nobody waits for it any more.
      if (!this.#closed) throw error
    })
  }

  /** Whole records up to about `maxBytes` of lines, at least one; or one mark. Undefined past the end. */
  read(seq: number, maxBytes: number): SpoolRead | undefined {
    if (seq > this.#last) return undefined
    const from = this.#recordOf(seq)
    if (this.isMark(seq)) return { kind: 'mark', seq, mark: this.#markAt(from) }
    let to = from + 1
    let size = this.#lengthOf(from)
    for (; to < this.#firsts.length && !this.#marks.has(this.#firsts[to]!); to++) {
      if (size + this.#lengthOf(to) > maxBytes) break
      size += this.#lengthOf(to)
    }
    const bytes = afterLines(this.#payloads(from, to, size), seq - this.#firsts[from]!)
    return { kind: 'lines', first: seq, count: (this.#firsts[to] ?? this.#last + 1) - seq, bytes }
  }

  /** About the bytes after `seq`, from the beginning of a record on: what is still to be acknowledged. */
  bytesAfter(seq: number): number {
    return seq >= this.#last ? 0 : this.#end - this.#offsets[this.#recordOf(seq + 1)]!
  }

  get isClosed(): boolean {
    return this.#closed
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#unread = undefined
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

  #markAt(record: number): Mark {
    return parseJson(this.#payloads(record, record + 1, this.#lengthOf(record))) as Mark
  }

  /** The payloads of these records, one behind the other: one read, and the headers between them taken out. */
  #payloads(from: number, to: number, size: number): Uint8Array {
    const unread = this.#unread
    if (unread && unread.record < to) this.#unread = undefined
    if (unread?.record === from) return unread.bytes
    const offset = this.#offsets[from]!
    const bytes = new Uint8Array(size + (to - from - 1) * HEADER)
    readFully(this.#file, bytes, offset)
    let end = this.#lengthOf(from)
    for (let at = from + 1; at < to; at++) {
      const begin = this.#offsets[at]! - offset
      bytes.copyWithin(end, begin, begin + this.#lengthOf(at))
      end += this.#lengthOf(at)
    }
    return bytes.subarray(0, size)
  }

  #lengthOf(record: number): number {
    const next = this.#offsets[record + 1]
    return (next === undefined ? this.#end : next - HEADER) - this.#offsets[record]!
  }

  /** The record that holds `seq`, by halving. */
  #recordOf(seq: number): number {
    let low = 0
    let high = this.#firsts.length
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#firsts[middle]! <= seq) low = middle
      else high = middle
    }
    return low
  }

  #makeRoom(size: number): void {
    this.#mustBeOpen()
    if (this.#takenBytes + size > RECORD_BYTES) this.flush()
    this.#takenBytes += size
  }

  /** Its number belongs to another file as soon as this one is closed: the spool of another run, as likely as not. */
  get #file(): number {
    this.#mustBeOpen()
    return this.#fd
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new Error('the spool is closed')
  }

  /** `events`: how many seqs it takes. */
  #write(kind: number, payload: Uint8Array, events = 0): void {
    const file = this.#file
    const header = headerOf(kind, payload)
    try {
      const wanted = HEADER + payload.length
      const written = writevSync(file, [header, payload])
      if (written !== wanted) throw Object.assign(new Error(`only ${written} of ${wanted} bytes were written to the spool`), { code: 'ENOSPC' })
    } catch (error) {
      // A half record would swallow the next one.
      ftruncateSync(file, this.#end)
      throw error
    }
    if (events > 0) this.#index(kind, this.#end + HEADER, events)
    this.#end += HEADER + payload.length
    this.#unsynced += HEADER + payload.length
  }

  #index(kind: number, offset: number, events: number): void {
    this.#firsts.push(this.#last + 1)
    this.#offsets.push(offset)
    this.#last += events
    if (kind === KIND.mark) this.#marks.add(this.#last)
  }
}

async function syncFolder(path: string): Promise<void> {
  const fd = openSync(path, 'r')
  try {
    await sync(fd)
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
