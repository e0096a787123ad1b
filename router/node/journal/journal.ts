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

/** One file is written while the rows of the other one go to the database: this much is in memory twice at most. */
const FILE_BYTES = 8 * 1024 * 1024
/** What says much at once goes to the database, where to write it once costs less than to write it here first. */
const LOUD_BYTES = 16 * 1024
/** What a small event is of a group of the log, beside one that is a row; and the bytes that weigh as much as one. */
const WEIGHT = { least: 1 / 16, bytes: 4 * 1024 } as const
/** A backup of the database lacks no more than this of what live runs said. */
const SETTLE_EVERY_MS = 5_000
/** How long one transaction of many may hold the event loop: a few milliseconds. */
const SLICE = { bytes: 512 * 1024, runs: 64 } as const

export interface JournalParts extends RecoverParts {
  /** Resolves when the event loop has come round. */
  readonly nextTurn: () => Promise<void>
  readonly fileBytes?: number | undefined
}

export class Journal {
  readonly #held = new Held()
  readonly #parts: JournalParts
  /** The first is written, the other rests until the database has what it holds. */
  #files: [JournalFile, JournalFile] | undefined
  #use: number
  /** Runs that were seen under way, with their fence: only an append through here ends one. */
  readonly #underWay = new Map<string, number>()
  #turn: Promise<unknown> = Promise.resolve()
  /** Whether the database has everything that the resting file holds. */
  #settled: Promise<boolean> = Promise.resolve(true)
  #turning: Promise<void> | undefined
  readonly #ticker: NodeJS.Timeout

  private constructor(parts: JournalParts, use: number) {
    this.#parts = parts
    this.#use = use
    this.#ticker = setInterval(() => this.#tick(), SETTLE_EVERY_MS)
    this.#ticker.unref()
  }

  /** Brings into the database what a crash has left in the files. Rejects when it does not take it. */
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
      chunks: async (run, afterSeq, maxBytes) => this.#held.page(run, afterSeq, maxBytes) ?? database.chunks(run, afterSeq, maxBytes),
      event: async (run, seq) => this.#held.event(run, seq) ?? database.event(run, seq),
    }
  }

  /** As the database does it: see `Commit`. Not to be called again before it is done. */
  readonly commit: Commit = async (appends) => {
    const plain = await this.#plainOf(appends)
    if (plain.size > 0 && (this.#files?.[0].end ?? 0) >= this.#fileBytes) await this.#turnOver()
    return this.#inTurn(async () => {
      const outcomes = new Map<Append, Outcome>()
      const others = appends.filter((append) => !plain.has(append))
      if (others.length > 0) for (const [i, outcome] of (await this.#throughDatabase(others)).entries()) outcomes.set(others[i]!, outcome)
      if (plain.size > 0) await this.#write([...plain])
      return appends.map((append) => outcomes.get(append) ?? 'durable')
    })
  }

  /** Everything is in the database. Nothing may be appended from here on. */
  async close(): Promise<void> {
    clearInterval(this.#ticker)
    await this.#turning?.catch(() => undefined)
    await this.#settled
    const isDone = await this.#settle()
    const files = await this.#inTurn(() => Promise.resolve(this.#files))
    for (const file of files ?? []) await file.close(isDone)
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
      if (moved.has(run)) continue
      if (this.#underWay.get(run) !== fence) {
        if (!(await isUnderWay(this.#parts.db, run, fence))) continue
        this.#underWay.set(run, fence)
      }
      plain.add(append)
    }
    return plain
  }

  async #write(appends: readonly Append[]): Promise<void> {
    const rows = appends.flatMap(({ run, fence, rows: its }) => its.map((row): JournalRow => ({ run, fence, row: row as WholeRow })))
    try {
      const [file] = (this.#files ??= await this.#open())
      const written = await file.write(rows.map(encodeRow))
      for (const [i, { run, fence, row }] of rows.entries()) {
        // Of what was written, so that the frames which it came in, and all that came with them, can go.
        const record = written[i]!
        this.#held.add(run, fence, { ...row, bytes: record.subarray(record.length - row.bytes.length) })
      }
    } catch (error) {
      throw storage(error)
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
    const runs = new Set(appends.map(({ run }) => run))
    const before = [...runs].flatMap((run) => this.#heldOf(run, Infinity) ?? [])
    const outcomes = await this.#keep(before, appends)
    for (const [i, { run, fence, running, started, ending }] of appends.entries()) {
      if (outcomes[i] === 'fenced_out' || ending) this.#underWay.delete(run)
      else if (running ?? started) this.#underWay.set(run, fence)
    }
    return outcomes
  }

  async #keep(held: readonly HeldAppend[], appends: readonly Append[]): Promise<Outcome[]> {
    const outcomes = await this.#parts.commit([...held.map(({ append }) => append), ...appends])
    for (const [i, { append, count }] of held.entries()) {
      if (outcomes[i] === 'fenced_out') this.#parts.log.error({ run: append.run, events: count }, 'events of a run that had ended were in the journal')
      this.#held.release(append.run, count)
    }
    return outcomes.slice(held.length)
  }

  #heldOf(run: string, maxBytes: number): HeldAppend | undefined {
    const held = this.#held.take(run, maxBytes)
    if (!held) return undefined
    const { fence, rows, count, isAll } = held
    const last = rows.at(-1)!
    return { count, isAll, append: { run, fence, rows, upTo: { seq: last.first + last.count - 1, part: 0 } } }
  }

  #tick(): void {
    // Whoever has to wait for it hears of its trouble, and it is in the log.
    if (!this.#held.isEmpty) this.#turnOver().catch(() => undefined)
  }

  /** The other file's turn, as soon as the database has what it holds. Rejects when it does not take it. */
  #turnOver(): Promise<void> {
    this.#turning ??= this.#swap().finally(() => (this.#turning = undefined))
    return this.#turning
  }

  async #swap(): Promise<void> {
    if (!(await this.#settled) && !(await (this.#settled = this.#settle()))) throw storage(new Error('the database does not take what the journal holds'))
    await this.#inTurn(() => {
      if (this.#files) this.#files = [this.#files[1], this.#files[0]]
      this.#files?.[0].begin(++this.#use)
      return Promise.resolve()
    })
    this.#settled = this.#settle()
  }

  /** Brings into the database what is held now, in slices, so that others come between. False: it did not take it. */
  async #settle(): Promise<boolean> {
    const runs = this.#held.runs()
    try {
      while (runs.length > 0) {
        await this.#inTurn(() => this.#keep(this.#slice(runs), []))
        await this.#parts.nextTurn()
      }
      return true
    } catch (error) {
      this.#parts.log.error({ err: error }, 'what the journal holds could not go to the database')
      return false
    }
  }

  /** Takes from `runs` what one transaction is to have; of a run that has more, the rest is for the next one. */
  #slice(runs: string[]): HeldAppend[] {
    const slice: HeldAppend[] = []
    let bytes = 0
    while (runs.length > 0 && slice.length < SLICE.runs && bytes < SLICE.bytes) {
      const run = runs.at(-1)!
      const held = this.#heldOf(run, SLICE.bytes - bytes)
      if (held) slice.push(held)
      bytes += held?.append.rows.reduce((sum, row) => sum + row.bytes.length, 0) ?? 0
      if (!held || held.isAll) runs.pop()
    }
    return slice
  }

  /** One after the other: what is held of a run must not go to the database twice. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => undefined)
    return done
  }
}

/** `count` rows that are held of a run, as one append. */
type HeldAppend = { readonly append: Append; readonly count: number; readonly isAll: boolean }

function isPlain({ started, running, ending, loss, rows }: Append): boolean {
  return !started && !running && !ending && !loss && rows.every(({ kind, bytes }) => kind !== 'part' && bytes.length < LOUD_BYTES)
}

/** How much of a group of the log an append is: what goes to the journal costs far less there than a row of the database. */
export function weigh(append: Append): number {
  return isPlain(append) ? Math.max(WEIGHT.least, append.rows.reduce((sum, { bytes }) => sum + bytes.length, 0) / WEIGHT.bytes) : 1
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
