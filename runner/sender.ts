/** Pushes what the outboxes have onto the connection, within credit, and never more than its socket may hold. */
import { CONNECTION_WINDOW } from '../shared/limits.ts'
import type { Clock } from './clock.ts'
import type { Outbox } from './outbox.ts'

/** A connection as the runner uses it. Frames are sent in order; `buffered` counts what the socket still holds. */
export interface Transport {
  send(data: string | Uint8Array<ArrayBuffer>): void
  readonly buffered: number
}

/** Never more than this in the socket's own buffer: it neither pushes back nor forgets. */
const MAX_BUFFERED = 1024 * 1024
const FULL_BUFFER_RETRY_MS = 10

export class Sender {
  readonly #clock: Clock
  readonly #outboxes = new Set<Outbox>()
  readonly #timers = new Map<Outbox, () => void>()
  /** Something waits for the credit of the connection, which any ack may give back. */
  #isShort = false
  #transport: Transport | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  add(outbox: Outbox): void {
    this.#outboxes.add(outbox)
  }

  remove(outbox: Outbox): void {
    this.#timers.get(outbox)?.()
    this.#timers.delete(outbox)
    this.#outboxes.delete(outbox)
  }

  /** The router has said where to go on: events may flow. */
  open(transport: Transport): void {
    this.#transport = transport
    this.pumpAll()
  }

  shut(): void {
    this.#transport = undefined
    for (const stop of this.#timers.values()) stop()
    this.#timers.clear()
  }

  /** Acks have come for these: they go on, and whoever had to wait for them. With a thousand runs, not all of them each time. */
  relieved(outboxes: readonly Outbox[]): void {
    if (this.#isShort) return this.pumpAll()
    for (const outbox of outboxes) this.pump(outbox)
  }

  pumpAll(): void {
    this.#isShort = false
    for (const outbox of this.#outboxes) this.pump(outbox)
  }

  pump(outbox: Outbox): void {
    const transport = this.#transport
    // A run that is let go of may still have its end to write.
    if (!transport || !this.#outboxes.has(outbox)) return
    this.#timers.get(outbox)?.()
    this.#timers.delete(outbox)
    for (;;) {
      if (transport.buffered > MAX_BUFFERED) return this.#later(outbox, FULL_BUFFER_RETRY_MS)
      const next = outbox.next(this.#clock.now(), this.#credit)
      if (next.do === 'nothing') return
      if (next.do === 'later') return this.#later(outbox, next.inMs)
      transport.send(next.message.data)
    }
  }

  #later(outbox: Outbox, ms: number): void {
    const stop = this.#clock.after(ms, () => this.pump(outbox))
    this.#timers.set(outbox, stop)
  }

  readonly #credit = (): number => {
    let left = CONNECTION_WINDOW
    for (const outbox of this.#outboxes) left -= outbox.unacked
    this.#isShort ||= left <= 0
    return left
  }
}
