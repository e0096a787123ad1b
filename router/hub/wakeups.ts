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
/** And of a run that says little in many rows: what is the follower's own of one is its place in a list. */
export const HANDED_ROWS = 512
/** As many as a page of the log has. */
export const PAGE_ROWS = 64

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
    const listeners = this.#listeners.get(topic)
    if (!listeners) return
    // Once for all of them. A part is no event yet: the log puts it together.
    const chunks = rows.map(({ kind, first, count, bytes }) => (kind === 'part' ? undefined : { kind, first, count, bytes }))
    for (const listener of listeners) listener.hand(chunks)
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

  /** Resolves at the next wake-up since the last `take`, when that left something, and when it is over. */
  next(): Promise<void> {
    if (this.#woken || this.isOver) return Promise.resolve()
    return new Promise((resolve) => (this.#resolve = resolve))
  }

  /**
   * The events right behind `after`, as far as they were handed over; none: the log has to be read. No more than `pageBytes`
   * of them at a time, but at least one row, and the rest the next time.
   */
  take(after: number, pageBytes: number): EventChunk[] {
    const fresh = this.#missed ? [] : this.#handed.filter(({ first }) => first > after)
    const page = fresh[0]?.first === after + 1 ? pageOf(fresh, pageBytes) : []
    this.#keep(page.length > 0 ? fresh.slice(page.length) : [])
    this.#woken = this.#handed.length > 0
    return page
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

  /** Undefined: something that only the log can give. */
  hand(chunks: readonly (EventChunk | undefined)[]): void {
    for (const chunk of chunks) {
      if (this.#missed) return
      const last = this.#handed.at(-1)
      const isNext = last === undefined || chunk?.first === last.first + last.count
      this.#handedBytes += chunk?.bytes.length ?? 0
      if (!chunk || !isNext || this.#handedBytes > HANDED_BYTES || this.#handed.length === HANDED_ROWS) return this.#miss()
      this.#handed.push(chunk)
    }
  }

  #miss(): void {
    this.#keep([])
    this.#missed = true
  }

  #keep(chunks: EventChunk[]): void {
    this.#missed = false
    this.#handed = chunks
    this.#handedBytes = chunks.reduce((sum, { bytes }) => sum + bytes.length, 0)
  }
}

/** The first one, and as many behind it as there is room for. */
function pageOf(chunks: readonly EventChunk[], pageBytes: number): EventChunk[] {
  const page: EventChunk[] = []
  let bytes = 0
  for (const chunk of chunks.slice(0, PAGE_ROWS)) {
    bytes += chunk.bytes.length
    if (bytes > pageBytes && page.length > 0) break
    page.push(chunk)
  }
  return page
}
