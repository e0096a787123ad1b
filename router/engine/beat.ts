/**
 * One timer for everything that has to be looked at now and then: a timer for each of thousands of streams is memory, and
 * work at every event.
 *
 * Its time is counted in its own beats, so that a clock that somebody sets ends nothing, and reading it costs nothing. It is
 * late by up to one beat, and by as much as the event loop is.
 */
const BEAT_MS = 250

export interface Beating {
  /** `now`: milliseconds, as in `Beat.now`. */
  beat(now: number): void
}

export class Beat {
  readonly #beating = new Set<Beating>()
  #now = 0
  #timer: ReturnType<typeof setInterval> | undefined

  /** Milliseconds in which there was somebody to look at. */
  get now(): number {
    return this.#now
  }

  add(one: Beating): void {
    this.#beating.add(one)
    this.#timer ??= setInterval(() => this.#beat(), BEAT_MS)
  }

  delete(one: Beating): void {
    this.#beating.delete(one)
    if (this.#beating.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #beat(): void {
    this.#now += BEAT_MS
    for (const one of this.#beating) one.beat(this.#now)
  }
}

const beats = new WeakMap<object, Beat>()

/** Of a process on Node, of a request on Workers, where no timer may serve another one: of whatever has `deps` of its own. */
export function beatOf(deps: object): Beat {
  const known = beats.get(deps)
  if (known) return known
  const made = new Beat()
  beats.set(deps, made)
  return made
}
