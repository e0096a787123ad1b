/**
 * The CLI processes that are between turns: those of sessions, for their next turn, and spares, for new sessions.
 *
 * It decides which of them stay, and when a spare is started. How one is started is the caller's, and so is a process
 * while it is taken: from `take`, `takeSpare` or `adopt` until `giveBack`. Of one session it never keeps two, and each that
 * it was ever given is disposed of once, when it is gone, whatever ended it.
 */
import type { Clock } from '../clock.ts'
import { bytesOf, ESTIMATED_BYTES, leaving, nextExpiryMs, roomFor, type KeepLimits } from './keep.ts'
import type { Resident } from './resident.ts'
import { SpareStarts, type MakeSpare } from './spare-starts.ts'

export interface WarmLimits extends KeepLimits {
  /** The most of one configuration. */
  readonly spares: number
}

export interface WarmView {
  /** Processes of sessions that wait for a turn. */
  readonly processes: number
  readonly spares: number
  /** Of both. */
  readonly memory_bytes: number
  readonly budget_bytes: number
}

interface Parts {
  readonly clock: Clock
  readonly limits: WarmLimits
  /** Bytes of it and all below it; 0 if that cannot be known. */
  memoryOf(pid: number): Promise<number>
  log(message: string, fields: Record<string, unknown>): void
}

interface Entry {
  readonly resident: Resident
  readonly turns: number
  spare: boolean
  bytes: number
  /** Undefined: it is taken, or is being ended. */
  idleSinceMs: number | undefined
  ending: boolean
  /** It goes when it is given back. */
  retired: boolean
  /** Nothing of it is left. */
  readonly over: Promise<void>
  /** It was given back, or is over. */
  free: Promise<void>
  setFree: () => void
}

/** What waits may still grow: its MCP servers work on. */
const LOOK_MS = 30_000

export class WarmPool {
  readonly #o: Parts
  readonly #entries = new Set<Entry>()
  /** All that it was ever given: what is gone must not come in again. */
  readonly #known = new WeakSet<Resident>()
  readonly #starts: SpareStarts
  #stopLooking: (() => void) | undefined
  #draining = false

  constructor(parts: Parts) {
    this.#o = parts
    this.#starts = new SpareStarts({
      clock: parts.clock,
      most: parts.limits.spares,
      waiting: (key) => [...this.#entries].filter((one) => one.spare && !one.ending && one.resident.key === key).length,
      room: (spare) => this.#room(spare),
      arrived: (spare, unwanted) => this.#arrived(spare, unwanted),
      log: (message, fields) => parts.log(message, fields),
    })
  }

  /**
   * The idle process of a session, if it is of this configuration and alive. One that is not is ended first, and one that
   * somebody else has taken is waited for: when this resolves with undefined nothing of that session is left. Whoever then
   * starts one and adopts it has to be the only one who does, which is the caller's to see to.
   */
  async take(session: string, key: string, tenant: string): Promise<Resident | undefined> {
    for (;;) {
      const entry = this.#of(session)
      if (!entry) return undefined
      if (fits(entry, key, tenant)) return this.#takenFrom(entry)
      if (entry.idleSinceMs !== undefined) this.#end(entry)
      await (entry.ending ? entry.over : entry.free)
    }
  }

  /** An initialised one of that configuration that nobody has used. From now on it is its session's. */
  takeSpare(key: string, tenant: string): Resident | undefined {
    const entry = [...this.#entries].find((one) => one.spare && fits(one, key, tenant))
    if (!entry) return undefined
    return this.#takenFrom(entry)
  }

  /**
   * A run has opened a new session with this configuration. If there were enough of them lately, `make` is called for
   * one like it, or for two, one after the other, as soon as the run is under way and there is room.
   */
  wanted(key: string, make: MakeSpare): void {
    if (this.#keeps) this.#starts.wanted(key, make)
  }

  /**
   * One that was started for a run and is about to have its turn; from now on it is as if it had been taken. False: none is
   * kept, so that its turn may as well be its end. It is given back all the same.
   */
  adopt(resident: Resident): boolean {
    if (!this.#keeps || this.#of(resident.session) || this.#known.has(resident)) return false
    this.#enter(resident, false)
    return true
  }

  /**
   * After a turn, or when an offer was withdrawn before one; also of one that was not adopted. It is kept if it is idle and
   * the limits allow it, else it ends. Whoever gives it back has nothing more to do with it.
   */
  giveBack(resident: Resident): void {
    const entry = this.#known.has(resident) ? [...this.#entries].find((one) => one.resident === resident) : this.#enter(resident, false)
    if (!entry || entry.idleSinceMs !== undefined) return
    // It was told to end in its turn, which may be all that has ended.
    if (entry.ending) return this.#end(entry, 'term')
    const mayStay = this.#keeps && !entry.retired && resident.cli.isIdle
    if (mayStay && this.#of(resident.session) === entry) this.#rest(entry)
    else this.#end(entry)
    entry.setFree()
  }

  /**
   * Ends those for which it holds: their configuration is no longer what it was. The idle ones now, one that is taken when it
   * comes back. No spare is started that was wanted before.
   */
  retire(which: (resident: Resident) => boolean): void {
    for (const entry of [...this.#entries].filter(({ resident }) => which(resident))) {
      if (entry.idleSinceMs === undefined) entry.retired = true
      else this.#end(entry)
    }
    void this.#starts.none()
  }

  view(): WarmView {
    const idle = this.#idle
    const spares = idle.filter(({ spare }) => spare).length
    return { processes: idle.length - spares, spares, memory_bytes: bytesOf(idle), budget_bytes: this.#o.limits.budgetBytes }
  }

  /** Of all that may be alive, but for a spare that is starting. */
  get markers(): readonly string[] {
    return [...this.#entries].map(({ resident }) => resident.marker)
  }

  /** No more spares; idle ones end, and what is taken ends when it comes back. */
  drain(): void {
    this.#draining = true
    void this.#starts.none()
    for (const entry of this.#idle) this.#end(entry)
  }

  /** Drains, and ends what is taken too, whose turns are to be over by now. Resolves when nothing of them is left. */
  async close(): Promise<void> {
    this.drain()
    await this.#starts.none()
    const entries = [...this.#entries]
    for (const entry of entries) this.#end(entry, 'term')
    await Promise.all(entries.map(({ over }) => over))
  }

  get #keeps(): boolean {
    const { idleMs, budgetBytes } = this.#o.limits
    return !this.#draining && idleMs > 0 && budgetBytes > 0
  }

  get #idle(): Entry[] {
    return [...this.#entries].filter(({ idleSinceMs }) => idleSinceMs !== undefined)
  }

  /** The first that came, of those that are not gone. */
  #of(session: string): Entry | undefined {
    return [...this.#entries].find(({ resident }) => resident.session === session)
  }

  #enter(resident: Resident, spare: boolean): Entry {
    const entry: Entry = {
      resident,
      get turns() {
        return resident.cli.turns
      },
      spare,
      bytes: ESTIMATED_BYTES,
      idleSinceMs: undefined,
      ending: false,
      retired: false,
      over: resident.cli.gone.then(() => this.#gone(entry)),
      free: Promise.resolve(),
      setFree: () => undefined,
    }
    busy(entry)
    this.#entries.add(entry)
    this.#known.add(resident)
    return entry
  }

  async #gone(entry: Entry): Promise<void> {
    const { resident } = entry
    entry.ending = true
    entry.idleSinceMs = undefined
    await resident.dispose().catch((error: unknown) => {
      this.#o.log('what was made for a CLI that has ended stays', { session: resident.session, err: error })
    })
    this.#entries.delete(entry)
    entry.setFree()
    this.#look()
  }

  #takenFrom(entry: Entry): Resident {
    // Not again if it comes back without a turn: its session's id was told to somebody.
    entry.spare = false
    entry.idleSinceMs = undefined
    busy(entry)
    this.#look()
    return entry.resident
  }

  #rest(entry: Entry): void {
    entry.idleSinceMs = this.#o.clock.now()
    this.#look()
    void this.#measure([entry])
  }

  async #measure(entries: readonly Entry[]): Promise<void> {
    await Promise.all(
      entries.map(async (entry) => {
        const bytes = await this.#o.memoryOf(entry.resident.cli.pid).catch(() => 0)
        // Where it cannot be measured the estimate still bounds their number.
        if (bytes > 0 && !entry.ending) entry.bytes = bytes
        if (bytes > 0 && entry.spare) this.#starts.measured(entry.resident.key, bytes)
      }),
    )
    this.#look()
  }

  /** Ends what is not to stay, and comes back when the next one will have waited too long. */
  #look(): void {
    const { clock, limits } = this.#o
    const now = clock.now()
    const idle = this.#idle
    const unusable = idle.filter(({ resident }) => !resident.cli.isIdle)
    for (const entry of new Set([...unusable, ...leaving(idle, limits, now)])) this.#end(entry)
    this.#stopLooking?.()
    const inMs = nextExpiryMs(this.#idle, limits, now)
    this.#stopLooking = inMs === undefined ? undefined : clock.after(Math.min(inMs, LOOK_MS), () => void this.#measure(this.#idle))
  }

  /** It has nothing to do: at the end of its stdin it exits. */
  #end(entry: Entry, mode: 'interrupt' | 'term' = 'interrupt'): void {
    if (entry.ending && mode === 'interrupt') return
    entry.ending = true
    entry.idleSinceMs = undefined
    entry.resident.cli.cancel(mode).catch((error: unknown) => {
      this.#o.log('a CLI could not be ended', { session: entry.resident.session, err: error })
    })
  }

  #room(spare: { bytes: number; waitMs: number }): boolean {
    const giveWay = roomFor(this.#idle, this.#o.limits, spare, this.#o.clock.now())
    for (const entry of giveWay ?? []) this.#end(entry)
    return giveWay !== undefined
  }

  #arrived(resident: Resident, tooLate: boolean): void {
    const entry = this.#enter(resident, true)
    if (tooLate || !resident.cli.isIdle) this.#end(entry)
    else this.#rest(entry)
  }
}

function fits({ idleSinceMs, resident }: Entry, key: string, tenant: string): boolean {
  // The key has the tenant in it. Nobody is to pay for it if one day it has not.
  return idleSinceMs !== undefined && resident.key === key && resident.tenant === tenant && resident.cli.isIdle
}

function busy(entry: Entry): void {
  entry.free = new Promise((resolve) => (entry.setFree = resolve))
}
