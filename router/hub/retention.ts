/**
 * The sweep that keeps a host's events bounded: what is older than its time goes, then, oldest first, what is too much.
 *
 * It runs beside the streams of its host, on the same connection, so it deletes in small pieces and comes back to the
 * event loop after each. A run that somebody reads at the moment is left for the next sweep. The file does not shrink: its
 * free pages take the next events (docs/decisions/0004).
 */
import type { Log, Platform, Store } from '../ports.ts'
import { deleteEvents, keptBytes, marked, markPruned, oldestKept, unmarkPruned, type KeptRun } from '../store/retention.ts'

export interface Keep {
  /** Events are kept this long after their run ended. */
  readonly ageMs: number
  /** And no more than this of all runs that have ended. */
  readonly bytes: number
}

/** Whoever waited for a run gets to read its result, however little is to be kept. */
const LEAST_AGE_MS = 60_000
/** Measured on two busy cores: 1 to 6 ms each, 0.3 to 1.7 s for a run of 64 MiB. */
const PIECE_BYTES = 512 * 1024
/** Pauses are so many times as long as the pieces, so that a large sweep takes a quarter of the event loop and no more. */
const REST = 3
const PAGE = 100

export class Retention {
  readonly #store: Store
  readonly #platform: Pick<Platform, 'now'>
  readonly #log: Log
  readonly #keep: Keep
  readonly #watched: (run: string) => boolean
  readonly #clock: () => number
  #sweeping: Promise<void> | undefined
  #closed = false

  /** `watched` says whether anybody reads the events of a run just now; `clock` measures its own work, in milliseconds. */
  constructor(parts: {
    store: Store
    platform: Pick<Platform, 'now'>
    log: Log
    keep: Keep
    watched: (run: string) => boolean
    clock: () => number
  }) {
    this.#store = parts.store
    this.#platform = parts.platform
    this.#log = parts.log
    this.#keep = parts.keep
    this.#watched = parts.watched
    this.#clock = parts.clock
  }

  /** Resolves when nothing of it is under way. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#sweeping?.catch(() => undefined)
  }

  /** Rejects when the database does not take writes; the next sweep goes on where this one stopped. */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#sweep().finally(() => (this.#sweeping = undefined))
    return this.#sweeping
  }

  async #sweep(): Promise<void> {
    const { db } = this.#store
    const now = this.#platform.now()
    await this.#finishMarked()
    let tooMuch = (await keptBytes(db)) - this.#keep.bytes
    let runs = 0
    let bytes = 0
    for (let page = await oldestKept(db, undefined, PAGE); page.length > 0; page = await oldestKept(db, page.at(-1), PAGE)) {
      const chosen: KeptRun[] = []
      let enough = false
      for (const run of page) {
        const age = now - run.endedAt
        enough = age <= this.#keep.ageMs && (tooMuch <= 0 || age <= LEAST_AGE_MS)
        if (enough) break
        if (this.#watched(run.id)) continue
        chosen.push(run)
        tooMuch -= run.eventBytes
      }
      const gone = await this.#prune(chosen, now)
      runs += gone.length
      bytes += gone.reduce((sum, run) => sum + run.eventBytes, 0)
      if (this.#closed || enough) break
    }
    if (runs > 0) this.#log.info({ runs, bytes }, 'events of old runs are no longer kept')
  }

  /** What an earlier process had marked, or whoever deleted a session. It was opened before that, if it is read at all. */
  async #finishMarked(): Promise<void> {
    while (!this.#closed) {
      const free = (await marked(this.#store.db, PAGE)).filter((run) => !this.#watched(run))
      if (free.length === 0) return
      await this.#finish(free)
    }
  }

  async #prune(chosen: readonly KeptRun[], now: number): Promise<KeptRun[]> {
    const { db } = this.#store
    const ours: KeptRun[] = []
    for (const run of chosen) if (await markPruned(db, run.id, now)) ours.push(run)
    // Who had looked at the row before it was marked has its stream open by the next turn.
    await pause(0)
    const free: KeptRun[] = []
    for (const run of ours) {
      if (this.#watched(run.id)) await unmarkPruned(db, run.id)
      else free.push(run)
    }
    await this.#finish(free.map((run) => run.id))
    return free
  }

  async #finish(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      while (!this.#closed) {
        const since = this.#clock()
        if (await deleteEvents(this.#store.db, id, PIECE_BYTES)) break
        await pause(REST * (this.#clock() - since))
      }
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
