/**
 * What is learnt of configurations from the runs that open a new session: how many spares one is worth, and when the next
 * of them will be used. Nothing here reads a clock or starts anything.
 */
import { ESTIMATED_BYTES } from './keep.ts'

/** Twice as long as a spare waits unless the owner says otherwise: with two runs in it, the next one more likely comes than not. */
const WINDOW_MS = 600_000
const RUNS_FOR_ONE = 2
/**
 * A spare is replaced within a second, so the second one is for runs that come together. Six in ten minutes is somebody who
 * goes on, and for whom 150 MiB and half a second of a processor are worth it; two or three are a person at a keyboard.
 */
const RUNS_FOR_TWO = 6
/** After a start that failed: what was wrong with it may have been mended. */
const COOL_MS = 60_000
/** A configuration has a name of some hundred bytes and a handful of numbers. */
const MOST_KEYS = 64

interface Learnt {
  /** When the last of them were, the oldest first. */
  readonly runs: readonly number[]
  readonly coolUntil: number
  readonly bytes: number
}

const NOTHING: Learnt = { runs: [], coolUntil: -Infinity, bytes: ESTIMATED_BYTES }

/** Times are monotonic milliseconds. */
export class Demand {
  /** The least recent first. */
  readonly #learnt = new Map<string, Learnt>()

  /** A run has opened a new session with it. */
  opened(key: string, now: number): void {
    const runs = [...this.#of(key).runs, now].slice(-RUNS_FOR_TWO)
    this.#learn(key, { runs })
    for (const oldest of this.#learnt.keys()) {
      if (this.#learnt.size <= MOST_KEYS) break
      this.#learnt.delete(oldest)
    }
  }

  /** A spare of it could not be started. */
  failed(key: string, now: number): void {
    if (this.#learnt.has(key)) this.#learn(key, { coolUntil: now + COOL_MS })
  }

  /** That is what a spare of it has. */
  measured(key: string, bytes: number): void {
    const learnt = this.#learnt.get(key)
    // Not as the most recent: it is of the past.
    if (learnt) this.#learnt.set(key, { ...learnt, bytes })
  }

  /** How many spares it is worth now. */
  spares(key: string, now: number): number {
    const { coolUntil } = this.#of(key)
    if (now < coolUntil) return 0
    const recent = this.#recent(key, now).length
    return recent >= RUNS_FOR_TWO ? 2 : recent >= RUNS_FOR_ONE ? 1 : 0
  }

  /** How long a spare of it is likely to wait, and what it is likely to have. */
  spare(key: string, now: number): { waitMs: number; bytes: number } {
    const recent = this.#recent(key, now)
    // Of a few that came together nobody knows how soon the next one will.
    const forMs = recent.length >= RUNS_FOR_TWO ? now - recent[0]! : WINDOW_MS
    return { waitMs: forMs / Math.max(1, recent.length), bytes: this.#of(key).bytes }
  }

  /** Of how many configurations it knows something. */
  get size(): number {
    return this.#learnt.size
  }

  #of(key: string): Learnt {
    return this.#learnt.get(key) ?? NOTHING
  }

  #recent(key: string, now: number): readonly number[] {
    return this.#of(key).runs.filter((at) => now - at < WINDOW_MS)
  }

  #learn(key: string, news: Partial<Learnt>): void {
    const learnt = { ...this.#of(key), ...news }
    this.#learnt.delete(key)
    this.#learnt.set(key, learnt)
  }
}
