/**
 * The ladder by which a CLI is ended: interrupt, close its stdin, SIGTERM, SIGKILL, each with a time to take effect.
 *
 * It begins gently because SIGTERM loses the result and (2.1.197) orphans the running tool, while an interrupt ends both
 * within 50 ms. What the rungs do, and the sweep that always follows, is the process's business.
 */

export type Rung = {
  act(): void | Promise<void>
  /** How long it may take until the process is gone. */
  waitMs: number
  /** Settles earlier when there is no more to wait for, although the process is alive. */
  done?: Promise<void>
}

export class Ladder {
  readonly #rungs: readonly Rung[]
  readonly #gone: Promise<void>
  #floor = 0
  #at = -1
  #hurry: (() => void) | undefined
  #climbing: Promise<void> | undefined

  /** `gone` settles when the process has exited. */
  constructor(rungs: readonly Rung[], gone: Promise<void>) {
    this.#rungs = rungs
    this.#gone = gone
  }

  /** Begins at that rung, or hurries on to it when already below. Resolves when the process is gone or no rung is left. */
  async climb(from: number): Promise<void> {
    this.#floor = Math.max(this.#floor, from)
    if (this.#at < this.#floor) this.#hurry?.()
    this.#climbing ??= this.#climb()
    return this.#climbing
  }

  async #climb(): Promise<void> {
    let gone = false
    void this.#gone.then(() => (gone = true))
    for (const [at, rung] of this.#rungs.entries()) {
      if (at < this.#floor) continue
      this.#at = at
      await rung.act()
      await this.#wait(rung)
      if (gone) return
    }
  }

  #wait({ waitMs, done }: Rung): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer)
        this.#hurry = undefined
        resolve()
      }
      const timer = setTimeout(finish, waitMs)
      this.#hurry = finish
      void this.#gone.then(finish)
      void done?.then(finish)
      if (this.#at < this.#floor) finish()
    })
  }
}
