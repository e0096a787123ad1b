/**
 * Where events are made durable before the database has them: one write to the end of a file for all that came together,
 * off the event loop, in place of a transaction on it. The rows follow in larger pieces a little later.
 *
 * What moves a run (its start, its end, its loss) is committed in the database as ever, and in the same transaction all
 * that the journal holds of it. So a run that has ended has nothing here, and only live runs are read from here. After a
 * crash what the database does not have is taken from the files before anything else happens.
 *
 * Only for a database that nobody else writes events to: another router would not see what is here.
 */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Append } from '../../core/runner-core.ts'
import type { Commit, Outcome } from '../../hub/event-log.ts'
import { databaseReads, type LogReads } from '../../store/run-events.ts'
import { isUnderWay } from '../../store/runs.ts'
import { storage } from '../connection.ts'
import { JournalFile } from './file.ts'
import { Held, type WholeRow } from './held.ts'
import { encodeRow, type JournalRow } from './record.ts'
import { JOURNAL_FILES, recover, type RecoverParts } from './recover.ts'
import { Serial } from './serial.ts'
import { Settler } from './settler.ts'

/** One file is written while the rows of the other one go to the database: this much is in memory twice at most. */
const FILE_BYTES = 32 * 1024 * 1024
/** What says much at once goes to the database, where to write it once costs less than to write it here first. */
const LOUD_BYTES = 16 * 1024
/** What a small event is of a group of the log, beside one that is a row; and the bytes that weigh as much as one. */
const WEIGHT = { least: 1 / 16, bytes: 4 * 1024 } as const
/**
 * A backup of the database lacks no more than this, and what the settling takes, of what live runs said. What a slow run says
 * meanwhile is one row: the longer this is, the fewer there are.
 */
const SETTLE_EVERY_MS = 20_000

/** What became of each. */
type Kept = readonly (readonly [Append, Outcome | Error])[]

export interface JournalParts extends RecoverParts {
  /** Resolves when the event loop has come round. */
  readonly nextTurn: () => Promise<void>
  readonly fileBytes?: number | undefined
}

export class Journal {
  readonly #held = new Held()
  readonly #parts: JournalParts
  readonly #settler: Settler
  /** Of whoever writes to a file, or says which one is written. */
  readonly #writing = new Serial()
  /** The first is written, the other rests until the database has what it holds. */
  #files: [JournalFile, JournalFile] | undefined
  #use: number
  /** Runs that were seen under way, with their fence: only an append through here ends one. */
  readonly #underWay = new Map<string, number>()
  /** Whether the database has everything that the resting file holds. */
  #settled: Promise<boolean> = Promise.resolve(true)
  /** Of the settling that is under way: somebody waits for its end. */
  #hurry = new AbortController()
  #switching: Promise<void> | undefined
  #isClosed = false
  readonly #ticker: NodeJS.Timeout

  private constructor(parts: JournalParts, use: number) {
    this.#parts = parts
    const endOf = async (run: string) => (await databaseReads(parts.db).end(run)).seq
    this.#settler = new Settler(this.#held, { ...parts, endOf })
    this.#use = use
    this.#ticker = setInterval(() => this.#tick(), SETTLE_EVERY_MS)
    this.#ticker.unref()
  }

  /** Brings into the database what a crash has left in the files. Rejects when it takes nothing. */
  static async open(parts: JournalParts): Promise<Journal> {
    return new Journal(parts, await recover(parts))
  }

  /** The log as it is, with what the database does not have yet. */
  get reads(): LogReads {
    const database = databaseReads(this.#parts.db)
    return {
      end: async (run) => {
        // Asked first: what is held now may be in the database, and here no longer, by the time that has answered.
        const held = this.#held.lastSeq(run) ?? 0
        const end = await database.end(run)
        return end.seq < held ? { seq: held, part: 0, parts: 0 } : end
      },
      chunks: async (run, afterSeq, maxBytes) =>
        this.#held.page(run, afterSeq, maxBytes) ?? database.chunks(run, afterSeq, maxBytes),
      event: async (run, seq) => this.#held.event(run, seq) ?? database.event(run, seq),
    }
  }

  /** As the database does it: see `Commit`. Not to be called again before it is done. */
  readonly commit: Commit = async (appends) => {
    const plain = await this.#plainOf(appends)
    const moves = appends.filter((append) => !plain.has(append))
    // The write is on its way when the transaction takes the event loop.
    const kept = await Promise.all([this.#keepPlain([...plain]), this.#keepMoves(moves)])
    const outcomes = new Map(kept.flat())
    return appends.map((append) => outcomes.get(append)!)
  }

  /** Everything is in the database, and no file is left; or it did not take it, and they are. What is appended now is refused. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#ticker)
    this.#hurry.abort()
    await this.#writing.run(() => undefined)
    await this.#switching?.catch(() => undefined)
    await this.#settled
    const isDone = await this.#settle(true)
    for (const file of this.#files ?? []) await file.close(isDone)
  }

  get #fileBytes(): number {
    return this.#parts.fileBytes ?? FILE_BYTES
  }

  /** Those that only add whole events to a run that is under way; behind another one of the same run nothing is plain. */
  async #plainOf(appends: readonly Append[]): Promise<Set<Append>> {
    const moved = new Set(appends.filter((append) => !isPlain(append)).map(({ run }) => run))
    const plain = new Set<Append>()
    for (const append of appends) {
      const { run, fence } = append
      if (moved.has(run) || !this.#settler.isSound(run)) continue
      if (this.#underWay.get(run) !== fence) {
        if (!(await isUnderWay(this.#parts.db, run, fence))) continue
        this.#underWay.set(run, fence)
      }
      plain.add(append)
    }
    return plain
  }

  async #keepPlain(appends: readonly Append[]): Promise<Kept> {
    if (appends.length === 0) return []
    try {
      if ((this.#files?.[0].end ?? 0) >= this.#fileBytes) {
        this.#hurry.abort()
        await this.#switchFiles()
      }
      await this.#writing.run(() => this.#write(appends))
      return appends.map((append) => [append, 'durable'])
    } catch (error) {
      if (this.#isClosed) return appends.map((append) => [append, storage(error)])
      this.#parts.log.error({ err: error }, 'the journal could not be written; the database is asked to take it')
      return this.#keepMoves(appends)
    }
  }

  async #keepMoves(appends: readonly Append[]): Promise<Kept> {
    if (appends.length === 0) return []
    try {
      const outcomes = await this.#throughDatabase(appends)
      return appends.map((append, i) => [append, outcomes[i]!])
    } catch (error) {
      const trouble = error instanceof Error ? error : storage(error)
      return appends.map((append) => [append, trouble])
    }
  }

  async #write(appends: readonly Append[]): Promise<void> {
    if (this.#isClosed) throw storage(new Error('the journal is closed'))
    const rows = appends.flatMap(({ run, fence, rows: its }) => its.map((row): JournalRow => ({ run, fence, row: row as WholeRow })))
    const [file] = (this.#files ??= await this.#open())
    const written = await file.write(rows.map(encodeRow))
    for (const [i, { run, fence, row }] of rows.entries()) {
      // Of what was written, so that the frames which it came in, and all that came with them, can go.
      const record = written[i]!
      this.#held.add(run, fence, { ...row, bytes: record.subarray(record.length - row.bytes.length) })
    }
  }

  async #open(): Promise<[JournalFile, JournalFile]> {
    const opened: JournalFile[] = []
    try {
      for (const name of JOURNAL_FILES) opened.push(await JournalFile.open(join(this.#parts.dir, name)))
      await synced(this.#parts.dir)
    } catch (error) {
      await Promise.all(opened.map((file) => file.close(false)))
      throw error
    }
    opened[0]!.begin(++this.#use)
    return opened as [JournalFile, JournalFile]
  }

  /** One transaction of these, behind all that is held of their runs. */
  async #throughDatabase(appends: readonly Append[]): Promise<Outcome[]> {
    const outcomes = await this.#settler.with(appends)
    for (const [i, { run, fence, running, started, ending }] of appends.entries()) {
      if (outcomes[i] === 'fenced_out' || ending) this.#underWay.delete(run)
      else if (running ?? started) this.#underWay.set(run, fence)
    }
    return outcomes
  }

  #tick(): void {
    // Whoever has to wait for it hears of its trouble, and it is in the log.
    if (!this.#held.isEmpty) this.#switchFiles().catch(() => undefined)
  }

  /** The other file is written from here on, as soon as the database has what it holds. Rejects when it does not take it. */
  #switchFiles(): Promise<void> {
    this.#switching ??= this.#switch().finally(() => (this.#switching = undefined))
    return this.#switching
  }

  async #switch(): Promise<void> {
    if (!(await this.#settled) && !(await (this.#settled = this.#settle(true)))) {
      throw storage(new Error('the database does not take what the journal holds'))
    }
    // What was written to a file is held before that file rests, and so is brought to the database now.
    await this.#writing.run(() => {
      if (!this.#files || this.#isClosed) return
      this.#files = [this.#files[1], this.#files[0]]
      this.#files[0].begin(++this.#use)
    })
    this.#settled = this.#settle(this.#isClosed)
  }

  #settle(isWaitedFor: boolean): Promise<boolean> {
    this.#hurry = new AbortController()
    if (isWaitedFor) this.#hurry.abort()
    return this.#settler.settle(this.#hurry.signal)
  }
}

function isPlain({ started, running, ending, loss, rows }: Append): boolean {
  if (started || running || ending || loss) return false
  return rows.every(({ kind, bytes }) => kind !== 'part' && bytes.length < LOUD_BYTES)
}

/** How much of a group of the log an append is: what goes to the journal costs far less there than a row of the database. */
export function weigh(append: Append): number {
  const bytes = append.rows.reduce((sum, row) => sum + row.bytes.length, 0)
  return isPlain(append) ? Math.max(WEIGHT.least, bytes / WEIGHT.bytes) : 1
}

/** A file that was just made is there after a power cut too. */
async function synced(dir: string): Promise<void> {
  const handle = await open(dir)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
