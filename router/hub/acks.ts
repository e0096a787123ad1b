/** One ack message for all the runs of a commit: what is acknowledged in the same turn goes out together. */
import type { AckEntry } from '../../shared/frames.ts'

export class Acks {
  /** Most runners of a large fleet have nothing to run: what they hold until then is memory. */
  #waiting: Map<string, AckEntry> | undefined
  readonly #send: (entries: AckEntry[]) => void

  constructor(send: (entries: AckEntry[]) => void) {
    this.#send = send
  }

  /** Acks are cumulative, so of one run only the newest counts. */
  add(entry: AckEntry): void {
    const waiting = (this.#waiting ??= new Map())
    if (waiting.size === 0) queueMicrotask(() => this.#flush(waiting))
    waiting.set(entry[0], entry)
  }

  #flush(waiting: Map<string, AckEntry>): void {
    const entries = [...waiting.values()]
    waiting.clear()
    this.#send(entries)
  }
}
