/** One ack message for all the runs of a commit: what is acknowledged in the same turn goes out together. */
import type { AckEntry } from '../../shared/frames.ts'

export class Acks {
  readonly #waiting = new Map<string, AckEntry>()
  readonly #send: (entries: AckEntry[]) => void

  constructor(send: (entries: AckEntry[]) => void) {
    this.#send = send
  }

  /** Acks are cumulative, so of one run only the newest counts. */
  add(entry: AckEntry): void {
    if (this.#waiting.size === 0) queueMicrotask(() => this.#flush())
    this.#waiting.set(entry[0], entry)
  }

  #flush(): void {
    const entries = [...this.#waiting.values()]
    this.#waiting.clear()
    this.#send(entries)
  }
}
