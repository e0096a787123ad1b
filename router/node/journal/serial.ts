/** One after the other, in the order of the calls. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve()

  /** What `work` comes to. That it failed is nothing to those behind it. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => undefined)
    return done
  }
}
