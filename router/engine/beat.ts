/**
 * One timer for everything that has to be looked at now and then: a timer for each of thousands of streams is memory, and
 * work at every event.
 *
 * Its time is counted in its own beats, so that a clock that somebody sets ends nothing, and reading it costs nothing. A time
 * counted by it is wrong by up to one beat, and late by as much as the event loop is.
 */

export interface Beating {
  /** `now`: milliseconds, as in `Beat.now`. */
  beat(now: number): void
}

export class Beat {
  readonly #everyMs: number
  readonly #beating = new Set<Beating>()
  #now = 0
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(everyMs: number) {
    this.#everyMs = everyMs
  }

  /** Milliseconds in which there was somebody to look at. */
  get now(): number {
    return this.#now
  }

  add(one: Beating): void {
    this.#beating.add(one)
    this.#timer ??= setInterval(() => this.#beat(), this.#everyMs)
  }

  delete(one: Beating): void {
    this.#beating.delete(one)
    if (this.#beating.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #beat(): void {
    this.#now += this.#everyMs
    for (const one of this.#beating) one.beat(this.#now)
  }
}

const beats = new WeakMap<object, Beat>()

/**
 * Of a process on Node, of a request on Workers, where no timer may serve another one: of whatever has `deps` of its own.
 * `everyMs` is the shortest time that is counted by it, and the same for all who have these `deps`.
 */
export function beatOf(deps: object, everyMs: number): Beat {
  const known = beats.get(deps)
  if (known) return known
  const made = new Beat(everyMs)
  beats.set(deps, made)
  return made
}
