/**
 * Tells others that a runner came, changed or left: its own object's memory, its pool, and its row. One telling at a time,
 * each of what is true when it begins, so that the last word is the newest.
 */
import type { Seat } from '../hub/seat.ts'
import { touchRunner } from '../store/runners.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import { sightOf } from './offers.ts'
import type { SeatRecord } from './seat-record.ts'
import { sharedStore } from './shared-store.ts'

export class Presence {
  readonly #env: Env
  readonly #record: SeatRecord
  /** Called when it could not be told, for another attempt. */
  readonly #failed: () => Promise<void>
  #telling: Promise<void> = Promise.resolve()
  #waiting = false
  /** What is true now was not told to everybody. */
  owed = false

  constructor(env: Env, record: SeatRecord, failed: () => Promise<void>) {
    this.#env = env
    this.#record = record
    this.#failed = failed
  }

  tell(seat: Seat): Promise<void> {
    if (this.#waiting) return this.#telling
    this.#waiting = true
    this.#telling = this.#telling.then(() => {
      this.#waiting = false
      return this.#tell(seat)
    })
    return this.#telling
  }

  async #tell(seat: Seat): Promise<void> {
    const { who, core, hint } = seat
    this.owed = true
    try {
      await this.#record.present(core.hello, core.draining, Date.now())
      const name = { tenant: who.tenant, pool: who.pool }
      await this.#env.POOL.getByName(`${name.tenant}/${name.pool}`).seen(name, who.runner, sightOf(seat.online))
      await touchRunner(sharedStore(this.#env).db, who.runner, hint, Date.now())
      // Something newer is told next.
      if (this.#waiting) return
      await this.#record.told()
      this.owed = false
    } catch (error) {
      log.warn({ err: error, runner: who.runner }, 'the pool of a runner could not be told of it; it is tried again')
      await this.#failed().catch((failure: unknown) => log.error({ err: failure }, 'no alarm could be set'))
    }
  }
}
