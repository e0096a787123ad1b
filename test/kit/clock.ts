/** A clock that stands still until a test moves it; what falls due on the way is called in its order. */
import type { Clock } from '../../runner/clock.ts'

export class TestClock implements Clock {
  #now = 0
  #sleptMs = 0
  readonly #due = new Set<{ at: number; call: () => void }>()

  now(): number {
    return this.#now
  }

  wall(): number {
    return 1_700_000_000_000 + this.#now + this.#sleptMs
  }

  after(ms: number, call: () => void): () => void {
    const entry = { at: this.#now + ms, call }
    this.#due.add(entry)
    return () => this.#due.delete(entry)
  }

  /** Timers that are still set. */
  get timers(): number {
    return this.#due.size
  }

  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const next = [...this.#due].filter((entry) => entry.at <= end).toSorted((a, b) => a.at - b.at)[0]
      if (!next) break
      this.#due.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.call()
    }
    this.#now = end
  }

  /** The machine sleeps: the wall clock goes on, the monotonic one does not. */
  sleep(ms: number): void {
    this.#sleptMs += ms
  }
}
