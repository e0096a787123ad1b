/**
 * What the rows of runners say of their connections, written for all that came or went within a moment in one commit: after
 * a restart thousands come back, and a commit for each would hold up whatever else the process does.
 *
 * It is a hint and nothing more, so that a moment later will do, and one that cannot be written is logged and forgotten.
 */
import type { Platform, Store } from '../ports.ts'
import { touchRunner, type RunnerRow } from '../store/runners.ts'

const TOGETHER_MS = 50

export class Touches {
  readonly #store: Store
  readonly #platform: Pick<Platform, 'now' | 'background'>
  /** By runner: what it offers, null when it left. */
  readonly #waiting = new Map<string, RunnerRow['online']>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(store: Store, platform: Pick<Platform, 'now' | 'background'>) {
    this.#store = store
    this.#platform = platform
  }

  add(runner: string, online: RunnerRow['online']): void {
    this.#waiting.set(runner, online)
    this.#timer ??= setTimeout(() => this.#platform.background(this.flush()), TOGETHER_MS)
  }

  /** Writes what waits, on the way out too. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const now = this.#platform.now()
    const touched = [...this.#waiting].map(([runner, online]) => touchRunner(this.#store.db, runner, online, now))
    this.#waiting.clear()
    if (touched.length > 0) await this.#store.batch(touched)
  }
}
