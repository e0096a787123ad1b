/**
 * Who is watching which run, for runs that want to end when nobody does. When the last subscriber has left, the run's
 * time begins to count; a subscriber that comes back stops it.
 */
import type { RunRef, RunRow } from '../ports.ts'

export interface AttendanceEvents {
  /** How long a run goes on unwatched; undefined: for ever. */
  patienceMs(ref: RunRef): Promise<number | undefined>
  abandoned(ref: RunRef): Promise<void>
  failed(error: unknown): void
}

const RETRY_MS = 1_000
/** After a restart, subscribers have this long to come back before they are taken for gone. */
const RETURN_MS = 30_000

export class Attendance {
  readonly #present = new Map<string, number>()
  readonly #timers = new Map<string, ReturnType<typeof setTimeout>>()
  readonly #events: AttendanceEvents
  #closed = false

  constructor(events: AttendanceEvents) {
    this.#events = events
  }

  /** The result is called when the subscriber leaves; more than once does no harm. */
  enter(ref: RunRef): () => void {
    clearTimeout(this.#timers.get(ref.run))
    this.#timers.delete(ref.run)
    this.#present.set(ref.run, (this.#present.get(ref.run) ?? 0) + 1)
    let here = true
    return () => {
      if (!here) return
      here = false
      const left = (this.#present.get(ref.run) ?? 1) - 1
      if (left > 0) this.#present.set(ref.run, left)
      else {
        this.#present.delete(ref.run)
        this.#count(ref)
      }
    }
  }

  /** Runs that nobody watches because their host has just begun. */
  restarted(runs: readonly Pick<RunRow, 'id' | 'tenant' | 'onDisconnectMs'>[]): void {
    for (const { id, tenant, onDisconnectMs } of runs) this.unwatched({ run: id, tenant }, Math.max(RETURN_MS, onDisconnectMs ?? 0))
  }

  /** The run has ended: nobody needs to watch it. */
  over(run: string): void {
    clearTimeout(this.#timers.get(run))
    this.#timers.delete(run)
  }

  watched(run: string): boolean {
    return this.#present.has(run)
  }

  /** What could not be read or done now is tried again: the wish of a run must not be lost to a locked database. */
  #count(ref: RunRef): void {
    this.#events.patienceMs(ref).then(
      (ms) => ms !== undefined && this.unwatched(ref, ms),
      (error: unknown) => {
        this.#events.failed(error)
        this.unwatched(ref, RETRY_MS, () => this.#count(ref))
      },
    )
  }

  /** Nobody watches: after `ms` the run is given up, unless somebody has come. */
  unwatched(ref: RunRef, ms: number, then = () => this.#abandon(ref)): void {
    if (this.#closed || this.#present.has(ref.run)) return
    clearTimeout(this.#timers.get(ref.run))
    const timer = setTimeout(() => {
      this.#timers.delete(ref.run)
      if (!this.#closed && !this.#present.has(ref.run)) then()
    }, ms)
    this.#timers.set(ref.run, timer)
  }

  #abandon(ref: RunRef): void {
    this.#events.abandoned(ref).catch((error: unknown) => {
      this.#events.failed(error)
      this.unwatched(ref, RETRY_MS)
    })
  }

  /** A router that stops drops its subscribers itself; they come back to the next one. */
  close(): void {
    this.#closed = true
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
  }
}
