/** Where each run stands in the line, for those who watch: worked out for all of them at once, and shown for a moment. */
import { placesIn, type Waiting } from '../core/queue-order.ts'

/** How old a place may be that somebody is shown. */
const FRESH_MS = 500

export class Places {
  #known: { at: number; of: ReadonlyMap<string, number> } = { at: -Infinity, of: new Map() }

  /** From 1. `now` is of any clock that only goes forward. */
  of(run: string, waiting: () => Iterable<Waiting & { readonly pool: string }>, now: number): number {
    if (now - this.#known.at > FRESH_MS || !this.#known.of.has(run)) this.#known = { at: now, of: placesIn(waiting()) }
    return this.#known.of.get(run) ?? 1
  }

  /** The order is another one. */
  forget(): void {
    this.#known = { at: -Infinity, of: new Map() }
  }
}
