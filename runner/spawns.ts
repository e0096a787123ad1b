/**
 * How many CLIs start at the same time: one for each processor. Starting one takes half a second of it, so more at once
 * only make all of them late; streaming takes next to nothing and has no such limit. Nor do the starts hold up what streams:
 * of two processors none needs to be kept for that. Beside a burst of eight starts lines were late by 0.1 ms in the middle
 * and 0.4 ms in the worst tenth, with one start at a time as with two and with four, and 0.4 ms without any; with one at a
 * time the burst took 6.2 s instead of 3.6. What does hold them up is the fork itself: claude/spawner.ts.
 */
import { availableParallelism } from 'node:os'
import PQueue from 'p-queue'
import { Fault } from '../shared/faults.ts'

export class SpawnQueue {
  readonly #queue: PQueue

  constructor(concurrency = availableParallelism()) {
    // No timeout of the queue's own: it would let go of a CLI that is still starting.
    this.#queue = new PQueue({ concurrency })
  }

  /** How many wait for their turn. */
  get waiting(): number {
    return this.#queue.size
  }

  /**
   * Rejects with `Fault('start_by')` when `signal` aborts before its turn; from then on the signal is
   * `start`'s to heed. With `later` it lets everybody else go first.
   */
  async run<T>(start: () => Promise<T>, signal: AbortSignal, { later = false } = {}): Promise<T> {
    // Not `signal` itself: the queue would give up the place of a CLI that is still being ended.
    const leaving = new AbortController()
    const leave = (): void => leaving.abort(new Fault('start_by', 'the offer was withdrawn before a processor was free'))
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave, { once: true })
    const task = (): Promise<T> => {
      signal.removeEventListener('abort', leave)
      return start()
    }
    try {
      return await this.#queue.add(task, { signal: leaving.signal, priority: later ? -1 : 0 })
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }
}
