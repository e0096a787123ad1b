/**
 * Sessions that take no further turn now, as far as the line knows: the database refuses a second one, this saves asking.
 *
 * A session that the database refused is passed by until the database says that it is free. It is not simply tried again
 * after a while: each try holds a slot until it has failed, and with many such sessions there would be none left.
 */
const LOOK_MS = 500
/** A turn that is over somewhere may be one of them, and in a busy pool one is over all the time. */
const LOOK_WHEN_TOLD_MS = 100

export class Turns {
  readonly #underWay = new Map<string, string>()
  /** Sessions whose turn only the database knows of. */
  readonly #heldOff = new Set<string>()
  readonly #busyAmong: (sessions: readonly string[]) => Promise<ReadonlySet<string>>
  #isLooking = false
  #lookedAt = -Infinity

  constructor(busyAmong: (sessions: readonly string[]) => Promise<ReadonlySet<string>>) {
    this.#busyAmong = busyAmong
  }

  begun(run: string, session: string): void {
    this.#underWay.set(run, session)
  }

  over(run: string): void {
    this.#underWay.delete(run)
  }

  /** The database says that it has a turn. */
  holdOff(session: string): void {
    this.#heldOff.add(session)
  }

  /** Time to ask again, one question at a time. `told`: some turn is over, nobody knows whose. */
  isDue(now: number, told: boolean): boolean {
    return this.#heldOff.size > 0 && !this.#isLooking && now - this.#lookedAt >= (told ? LOOK_WHEN_TOLD_MS : LOOK_MS)
  }

  /** Nobody waits for them any more, and so nobody would ask. */
  forgetHeldOff(): void {
    this.#heldOff.clear()
  }

  /** Takes back those whose turn is over. A question that fails is asked again later. */
  async look(now: number): Promise<void> {
    const asked = [...this.#heldOff]
    this.#isLooking = true
    this.#lookedAt = now
    try {
      const busy = await this.#busyAmong(asked)
      for (const session of asked) if (!busy.has(session)) this.#heldOff.delete(session)
    } finally {
      this.#isLooking = false
    }
  }

  sessions(): Set<string> {
    return new Set([...this.#underWay.values(), ...this.#heldOff])
  }
}
