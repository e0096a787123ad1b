/** Sessions that take no further turn now, as far as the line knows: the database refuses a second one, this saves asking. */
const HOLD_OFF_MS = 500

export class Turns {
  readonly #underWay = new Map<string, string>()
  /** Sessions whose turn only the database knows of, and until when they are passed by. */
  readonly #heldOff = new Map<string, number>()

  begun(run: string, session: string): void {
    this.#underWay.set(run, session)
  }

  over(run: string): void {
    this.#underWay.delete(run)
  }

  /** The database says that it has a turn. */
  holdOff(session: string, now: number): void {
    this.#heldOff.set(session, now + HOLD_OFF_MS)
  }

  /** Some turn is over, nobody knows whose. */
  lookAgain(): void {
    this.#heldOff.clear()
  }

  sessions(now: number): Set<string> {
    for (const [session, until] of this.#heldOff) if (until <= now) this.#heldOff.delete(session)
    return new Set([...this.#underWay.values(), ...this.#heldOff.keys()])
  }
}
