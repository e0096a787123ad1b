/** What one runner's object throws away: events that are too old or too many, now and then, and those that nobody is to read any more. */
import { Retention } from '../hub/retention.ts'
import type { Platform, Store } from '../ports.ts'
import { settingsOf, type Env } from './env.ts'
import { log } from './log.ts'
import type { Settlement } from './settlement.ts'

const SWEEP_MS = 3_600_000

export class ObjectSweep {
  readonly #settlement: Settlement
  readonly #keepMs: number
  readonly #retention: Retention
  #sweptAt = 0

  /** `watched` says whether anybody reads the events of a run just now. */
  constructor(own: Store, env: Env, platform: Platform, settlement: Settlement, watched: (run: string) => boolean) {
    const { keep } = settingsOf(env)
    this.#settlement = settlement
    this.#keepMs = keep.ageMs
    this.#retention = new Retention({ store: own, platform, log, keep, watched, clock: () => Date.now() })
  }

  /** Nothing, where that was not long ago. The shared rows are owed what became of it. */
  async ifDue(now: number): Promise<void> {
    if (now - this.#sweptAt <= SWEEP_MS) return
    this.#sweptAt = now
    await this.#retention.sweep()
    await this.#settlement.owePruned(now)
  }

  /** The events of these, now, and their shared rows told so. */
  async forget(runs: readonly string[], now: number): Promise<void> {
    await this.#settlement.forget(runs, now)
    await this.#retention.sweep()
    await this.#settlement.settle()
  }

  /** When to look again, where the run that ended first of those that are kept ended then. */
  dueAt(endedAt: number, now: number): number {
    return Math.max(now + SWEEP_MS, endedAt + this.#keepMs)
  }
}
