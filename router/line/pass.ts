/**
 * One look at the fleet, for everybody in the line: what is connected, how much room is left after what this very pass
 * has given away, and how much each tenant has under way.
 */
import { place, type Candidate, type Placed, type Wish } from '../core/placement.ts'

/** What the line sees of the runners: hints, as only their own cores admit. */
export interface Sight {
  connected(tenant: string): Candidate[]
  /** Runs of a tenant that hold a slot. */
  underWay(tenant: string): number
}

export class Pass {
  readonly #sight: Sight
  readonly #random: () => number
  readonly #candidates = new Map<string, Candidate[]>()
  readonly #underWay = new Map<string, number>()
  readonly #given = new Map<string, number>()

  constructor(sight: Sight, random: () => number) {
    this.#sight = sight
    this.#random = random
  }

  readonly underWay = (tenant: string): number => {
    const known = this.#underWay.get(tenant) ?? this.#sight.underWay(tenant)
    this.#underWay.set(tenant, known)
    return known
  }

  hasRoom(tenant: string): boolean {
    return this.#of(tenant).some((c) => !c.draining && c.busy < c.slots)
  }

  /** A run that every runner was tried for begins again: a slow answer is no verdict for ever. */
  place(
    wish: Omit<Wish, 'tried'> & { readonly tenant: string; readonly tried: Set<string>; readonly full: ReadonlySet<string> },
  ): Placed {
    const candidates = this.#of(wish.tenant)
    const placed = place(candidates, { ...wish, tried: new Set([...wish.tried, ...wish.full]) }, this.#random)
    if (placed.ok || wish.tried.size === 0) return placed
    wish.tried.clear()
    return place(candidates, { ...wish, tried: wish.full }, this.#random)
  }

  /** The slot is taken, as far as this pass goes. */
  give(runner: string): void {
    this.#given.set(runner, (this.#given.get(runner) ?? 0) + 1)
    this.#candidates.clear()
  }

  /** Nobody gets a slot of this runner in this pass. */
  hold(runner: string): void {
    this.#given.set(runner, Infinity)
    this.#candidates.clear()
  }

  #of(tenant: string): Candidate[] {
    const known = this.#candidates.get(tenant)
    if (known) return known
    const found = this.#sight.connected(tenant).map((r): Candidate => ({ ...r, busy: r.busy + (this.#given.get(r.id) ?? 0) }))
    this.#candidates.set(tenant, found)
    return found
  }
}
