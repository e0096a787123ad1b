/**
 * The one alarm of an object: it goes off at the earliest time that anybody asked for. Setting it is a write, so what is
 * planned is remembered, and an alarm that is early enough stays.
 */
export class AlarmClock {
  readonly #storage: DurableObjectStorage
  #planned: number | undefined

  constructor(storage: DurableObjectStorage) {
    this.#storage = storage
  }

  /** `at` in milliseconds since 1970. */
  async by(at: number): Promise<void> {
    const kept = this.#planned ?? (await this.#storage.getAlarm()) ?? Infinity
    // Somebody else may have planned meanwhile.
    this.#planned ??= kept
    if (this.#planned <= at && this.#planned > Date.now()) return
    this.#planned = at
    await this.#storage.setAlarm(at)
  }

  within(ms: number): Promise<void> {
    return this.by(Date.now() + ms)
  }

  /** It has gone off: nothing is planned any more. */
  wentOff(): void {
    this.#planned = Infinity
  }
}
