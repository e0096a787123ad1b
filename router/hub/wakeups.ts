/**
 * Who follows which run, and what of it became durable since he last looked.
 *
 * A wake-up carries nothing: whoever follows reads the log from his own cursor. What was just committed may be handed over
 * in front of it, so that one who stands at the end of the log need not read what was in memory a moment ago. That is a
 * short cut: whoever is too slow for it, or was given nothing, reads.
 */
import { COALESCE_BYTES, RUN_WINDOW } from '../../shared/limits.ts'
import type { LogRow } from '../core/intake.ts'
import type { EventChunk } from '../ports.ts'

/**
 * What waits for one follower: what becomes durable at once when a run has used its window. With less, whoever follows a loud
 * run would read nearly all of it back from the log. Those of a run share the bytes, but each may follow another run.
 */
export const HANDED_BYTES = RUN_WINDOW + COALESCE_BYTES

export class Wakeups {
  readonly #listeners = new Map<string, Set<Listener>>()
  #closed = false

  /** Until `end` or until the signal aborts. */
  listen(topic: string, signal: AbortSignal): Listener {
    const others = this.#listeners.get(topic) ?? new Set()
    const listener = new Listener(signal, this.#closed, () => {
      others.delete(listener)
      if (others.size === 0 && this.#listeners.get(topic) === others) this.#listeners.delete(topic)
    })
    this.#listeners.set(topic, others.add(listener))
    return listener
  }

  /** Rows that are durable now, in the order of their commits; their wake-up comes behind. */
  handOver(topic: string, rows: readonly LogRow[]): void {
    for (const listener of this.#listeners.get(topic) ?? []) listener.hand(rows)
  }

  wake(topic: string): void {
    for (const listener of this.#listeners.get(topic) ?? []) listener.wake()
  }

  /** It is over for everybody, and for whoever still comes. */
  close(): void {
    this.#closed = true
    for (const listeners of this.#listeners.values()) for (const listener of listeners) listener.close()
  }
}

export class Listener {
  readonly #signal: AbortSignal
  readonly #leave: () => void
  #closed: boolean
  #woken = false
  #resolve: (() => void) | undefined
  #handed: EventChunk[] = []
  #handedBytes = 0
  /** Something was not kept for him, so what came behind it is of no use. */
  #missed = false

  constructor(signal: AbortSignal, closed: boolean, leave: () => void) {
    this.#signal = signal
    this.#closed = closed
    this.#leave = leave
    signal.addEventListener('abort', this.wake, { once: true })
  }

  /** Nobody wants to hear anything any more, or there is nothing more to be heard. */
  get isOver(): boolean {
    return this.#closed || this.#signal.aborted
  }

  /** Resolves at the next wake-up since the last `take`, and when it is over. */
  next(): Promise<void> {
    if (this.#woken || this.isOver) return Promise.resolve()
    return new Promise((resolve) => (this.#resolve = resolve))
  }

  /** The events right behind `after`, as far as they were handed over; none: the log has to be read. */
  take(after: number): EventChunk[] {
    const fresh = this.#missed ? [] : this.#handed.filter(({ first }) => first > after)
    this.#woken = false
    this.#forget(false)
    return fresh[0]?.first === after + 1 ? fresh : []
  }

  end(): void {
    this.#signal.removeEventListener('abort', this.wake)
    this.#leave()
  }

  readonly wake = (): void => {
    this.#woken = true
    this.#resolve?.()
  }

  close(): void {
    this.#closed = true
    this.wake()
  }

  hand(rows: readonly LogRow[]): void {
    for (const { kind, first, count, bytes } of rows) {
      if (this.#missed) return
      const last = this.#handed.at(-1)
      const isNext = last === undefined || first === last.first + last.count
      this.#handedBytes += bytes.length
      // A part is no event yet. The log puts it together.
      if (kind === 'part' || !isNext || this.#handedBytes > HANDED_BYTES) return this.#forget(true)
      this.#handed.push({ kind, first, count, bytes })
    }
  }

  #forget(missed: boolean): void {
    this.#missed = missed
    this.#handed = []
    this.#handedBytes = 0
  }
}
