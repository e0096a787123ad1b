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

  /** Until `end`. `wake` is called at each wake-up, and when it is over for all. */
  listen(topic: string, wake: () => void): Listener {
    const others = this.#listeners.get(topic) ?? new Set()
    const listener = new Listener(wake, this.#closed, () => {
      others.delete(listener)
      if (others.size === 0 && this.#listeners.get(topic) === others) this.#listeners.delete(topic)
    })
    this.#listeners.set(topic, others.add(listener))
    return listener
  }

  /** Rows that are durable now, in the order of their commits; their wake-up comes behind. */
  handOver(topic: string, rows: readonly LogRow[]): void {
    const listeners = this.#listeners.get(topic)
    if (!listeners || rows.length === 0) return
    // A part is no event yet: the log puts it together.
    const chunks = isWhole(rows) ? rows : undefined
    for (const listener of listeners) listener.hand(chunks)
  }

  wake(topic: string): void {
    for (const listener of this.#listeners.get(topic) ?? NOBODY) listener.wake()
  }

  /** It is over for everybody, and for whoever still comes. */
  close(): void {
    this.#closed = true
    for (const listeners of this.#listeners.values()) for (const listener of listeners) listener.close()
  }
}

export class Listener {
  readonly #wake: () => void
  readonly #leave: () => void
  #isOver: boolean
  #isWoken = false
  /** Shared with others who were given the same. */
  #handed: readonly EventChunk[] = NOTHING
  /** The list in which it puts together what came in several calls. */
  #owned: EventChunk[] | undefined
  #handedBytes = 0
  /** Something was not kept for him, so what came behind it is of no use. */
  #missed = false

  constructor(wake: () => void, isOver: boolean, leave: () => void) {
    this.#wake = wake
    this.#isOver = isOver
    this.#leave = leave
  }

  /** There is nothing more to be heard. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** There was a wake-up since the last `take`, or that left something. */
  get isWoken(): boolean {
    return this.#isWoken
  }

  /**
   * The events right behind `after`, as far as they were handed over; none: the log has to be read. No more than `pageBytes`
   * of them at a time, but at least one row, and the rest the next time.
   */
  take(after: number, pageBytes: number): readonly EventChunk[] {
    const fresh = this.#missed ? NOTHING : behind(this.#handed, after)
    const page = fresh[0]?.first === after + 1 ? pageOf(fresh, pageBytes) : NOTHING
    this.#keep(page.length > 0 && page.length < fresh.length ? fresh.slice(page.length) : NOTHING)
    this.#isWoken = this.#handed.length > 0
    return page
  }

  end(): void {
    this.#leave()
  }

  wake(): void {
    this.#isWoken = true
    this.#wake()
  }

  close(): void {
    this.#isOver = true
    this.#wake()
  }

  /** Undefined: something that only the log can give. */
  hand(chunks: readonly EventChunk[] | undefined): void {
    if (this.#missed) return
    const last = this.#handed.at(-1)
    const isNext = chunks !== undefined && (last === undefined || chunks[0]?.first === endOf(last))
    this.#handedBytes += sizeOf(chunks ?? NOTHING)
    if (!isNext || this.#handedBytes > HANDED_BYTES || this.#handed.length + chunks.length > HANDED_ROWS) {
      this.#keep(NOTHING)
      this.#missed = true
    } else if (last === undefined) this.#handed = chunks
    else this.#own().push(...chunks)
  }

  /** What was handed over first is shared, and given out as it is. */
  #own(): EventChunk[] {
    this.#owned ??= [...this.#handed]
    this.#handed = this.#owned
    return this.#owned
  }

  #keep(chunks: readonly EventChunk[]): void {
    this.#missed = false
    this.#owned = undefined
    this.#handed = chunks
    this.#handedBytes = sizeOf(chunks)
  }
}

const NOBODY: readonly Listener[] = []
const NOTHING: readonly EventChunk[] = []

const sizeOf = (chunks: readonly EventChunk[]) => chunks.reduce((sum, { bytes }) => sum + bytes.length, 0)
const endOf = ({ first, count }: { readonly first: number; readonly count: number }) => first + count

/** Each behind the one before, and none of them a part. */
function isWhole(rows: readonly LogRow[]): rows is readonly (LogRow & EventChunk)[] {
  return rows.every(({ kind, first }, i) => kind !== 'part' && (i === 0 || first === endOf(rows[i - 1]!)))
}

/** Mostly all of them. */
function behind(chunks: readonly EventChunk[], after: number): readonly EventChunk[] {
  return chunks[0] && chunks[0].first <= after ? chunks.filter(({ first }) => first > after) : chunks
}

/** The first one, and as many behind it as there is room for. */
function pageOf(chunks: readonly EventChunk[], pageBytes: number): readonly EventChunk[] {
  let bytes = 0
  let rows = 0
  for (const chunk of chunks) {
    bytes += chunk.bytes.length
    if (rows === PAGE_ROWS || (bytes > pageBytes && rows > 0)) return chunks.slice(0, rows)
    rows++
  }
  return chunks
}
