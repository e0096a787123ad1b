/** Why runs were refused that left nothing behind: whoever asked for one may only come for his answer once it is gone. */
import type { Fault } from '../../shared/faults.ts'

/** Far longer than it takes from the answer to a submission to the question what became of it. */
const KEPT_MS = 30_000
/** More refusals than this at once are forgotten sooner, the oldest first. */
const MAX_KEPT = 1_000

export class Refusals {
  /** Oldest first, as a map keeps them. */
  readonly #of = new Map<string, { readonly fault: Fault; readonly at: number }>()

  /** `now` is of any clock that only goes forward. */
  add(run: string, fault: Fault, now: number): void {
    for (const [old, { at }] of this.#of) {
      if (this.#of.size < MAX_KEPT && now - at < KEPT_MS) break
      this.#of.delete(old)
    }
    this.#of.set(run, { fault, at: now })
  }

  find(run: string, now: number): Fault | undefined {
    const known = this.#of.get(run)
    return known && now - known.at < KEPT_MS ? known.fault : undefined
  }
}
