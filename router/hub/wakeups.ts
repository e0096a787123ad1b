/** Who waits for news of which run. A wake-up carries nothing: the waiter reads the log from its own cursor. */
export interface Listener {
  /** Resolves at the next wake-up since `listen`, or when the signal aborts. */
  next(signal: AbortSignal): Promise<void>
  end(): void
}

export class Wakeups {
  readonly #waiting = new Map<string, Set<() => void>>()

  listen(topic: string): Listener {
    let woken = false
    let resolve: (() => void) | undefined
    const wake = () => {
      woken = true
      resolve?.()
    }
    const set = this.#waiting.get(topic) ?? new Set()
    set.add(wake)
    this.#waiting.set(topic, set)
    return {
      next: (signal) =>
        new Promise((done) => {
          if (woken || signal.aborted) return done()
          resolve = () => {
            signal.removeEventListener('abort', resolve!)
            done()
          }
          signal.addEventListener('abort', resolve, { once: true })
        }),
      end: () => {
        set.delete(wake)
        if (set.size === 0 && this.#waiting.get(topic) === set) this.#waiting.delete(topic)
      },
    }
  }

  wake(topic: string): void {
    for (const wake of this.#waiting.get(topic) ?? []) wake()
  }
}
