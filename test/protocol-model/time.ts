/**
 * Time that a schedule moves. The router's side uses the globals, the runner's its clock; both end here, so that timers
 * of all processes fall due in one order, and those of a killed process never do.
 */
type Entry = { at: number; everyMs: number | undefined; call: () => void; owner: object }

export class Time {
  now = 0
  #due: Entry[] = []
  /** Whose the timers of the globals are. */
  owner: object = {}

  after(ms: number, call: () => void, owner: object, everyMs?: number): Entry {
    const entry = { at: this.now + Math.max(0, ms), everyMs, call, owner }
    this.#due.push(entry)
    return entry
  }

  cancel(entry: unknown): void {
    const at = this.#due.indexOf(entry as Entry)
    if (at >= 0) this.#due.splice(at, 1)
  }

  /** The process is gone. */
  drop(owner: object): void {
    this.#due = this.#due.filter((entry) => entry.owner !== owner)
  }

  count(owner: object): number {
    return this.#due.filter((entry) => entry.owner === owner).length
  }

  /** Everything that falls due on the way, each at its time; `between` is what happens meanwhile. */
  async advance(ms: number, between: () => Promise<void>): Promise<void> {
    const end = this.now + ms
    for (;;) {
      let next: Entry | undefined
      for (const entry of this.#due) if (entry.at <= end && (!next || entry.at < next.at)) next = entry
      if (!next) break
      // What falls due in the same moment is one turn of the event loop.
      this.now = Math.max(this.now, next.at)
      for (const entry of this.#due.filter((e) => e.at <= this.now)) this.#fire(entry)
      await between()
    }
    this.now = end
  }

  /** The processes stood still: what fell due meanwhile is called once, late. */
  async jump(ms: number, between: () => Promise<void>): Promise<void> {
    this.now += ms
    for (const entry of this.#due.filter((e) => e.at <= this.now).toSorted((a, b) => a.at - b.at)) this.#fire(entry)
    await between()
  }

  #fire(entry: Entry): void {
    const at = this.#due.indexOf(entry)
    if (at < 0) return
    if (entry.everyMs === undefined) this.#due.splice(at, 1)
    else entry.at = this.now + entry.everyMs
    entry.call()
  }
}

const REAL = {
  setTimeout: globalThis.setTimeout,
  setInterval: globalThis.setInterval,
  clearTimeout: globalThis.clearTimeout,
  clearInterval: globalThis.clearInterval,
}

/** From here on the globals tell the time of `current()`. The result gives the real ones back. */
export function installTime(current: () => Time): () => void {
  const handle = (entry: object) => Object.assign(entry, { unref: () => entry, ref: () => entry })
  const cancel = (entry: unknown) => current().cancel(entry)
  Object.assign(globalThis, {
    setTimeout: (call: () => void, ms = 0) => handle(current().after(ms, call, current().owner)),
    setInterval: (call: () => void, ms = 0) => handle(current().after(ms, call, current().owner, ms)),
    clearTimeout: cancel,
    clearInterval: cancel,
  })
  Object.defineProperty(performance, 'now', { configurable: true, value: () => current().now })
  return () => {
    Object.assign(globalThis, REAL)
    Reflect.deleteProperty(performance, 'now')
  }
}
