/**
 * When a spare is started: one at a time, for a configuration that is in demand, once the run that showed it is under way
 * and if there is room. What becomes of it then is the pool's.
 */
import type { Clock } from '../clock.ts'
import { Demand } from './demand.ts'
import type { Resident } from './resident.ts'

/** Rejects when it cannot be started or `signal` aborts; then nothing of it is left. */
export type MakeSpare = (signal: AbortSignal) => Promise<Resident>

interface Parts {
  readonly clock: Clock
  /** The most of one configuration. */
  readonly most: number
  /** How many of it wait. */
  waiting(key: string): number
  /** Makes it, if it can be made. */
  room(spare: { bytes: number; waitMs: number }): boolean
  /** `unwanted`: it came too late. */
  arrived(spare: Resident, unwanted: boolean): void
  log(message: string, fields: Record<string, unknown>): void
}

/** By then the run that showed the need has had its first event, which a CLI that starts beside it would delay. */
const SETTLE_MS = 250

export class SpareStarts {
  readonly #o: Parts
  readonly #demand = new Demand()
  /** The first is the next. */
  readonly #wanted = new Map<string, MakeSpare>()
  #starting: { readonly key: string; readonly abort: AbortController; settled: Promise<void> } | undefined
  #stopSettling: (() => void) | undefined

  constructor(parts: Parts) {
    this.#o = parts
  }

  /** A run has opened a new session with this configuration. `make` is kept only until it was called. */
  wanted(key: string, make: MakeSpare): void {
    if (this.#o.most === 0) return
    this.#demand.opened(key, this.#o.clock.now())
    if (this.#missing(key) === 0) return
    this.#wanted.set(key, make)
    this.#soon()
  }

  /** That is what a spare of it has. */
  measured(key: string, bytes: number): void {
    this.#demand.measured(key, bytes)
  }

  /** None that was wanted until now is started. Resolves when none is starting. */
  async none(): Promise<void> {
    this.#wanted.clear()
    this.#stopSettling?.()
    this.#stopSettling = undefined
    this.#starting?.abort.abort()
    await this.#starting?.settled
  }

  #missing(key: string): number {
    const { clock, most } = this.#o
    const there = this.#o.waiting(key) + (this.#starting?.key === key ? 1 : 0)
    return Math.max(0, Math.min(most, this.#demand.spares(key, clock.now())) - there)
  }

  #soon(): void {
    if (this.#starting || this.#stopSettling || this.#wanted.size === 0) return
    this.#stopSettling = this.#o.clock.after(SETTLE_MS, () => {
      this.#stopSettling = undefined
      this.#next()
    })
  }

  #next(): void {
    for (const [key, make] of this.#wanted) {
      this.#wanted.delete(key)
      if (this.#missing(key) === 0 || !this.#o.room(this.#demand.spare(key, this.#o.clock.now()))) continue
      const abort = new AbortController()
      const starting = { key, abort, settled: Promise.resolve() }
      this.#starting = starting
      starting.settled = this.#start(key, make, abort.signal)
      return
    }
  }

  async #start(key: string, make: MakeSpare, signal: AbortSignal): Promise<void> {
    const made = await this.#made(key, make, signal)
    this.#starting = undefined
    // What it is made of has changed meanwhile: nobody asks for the old, and how many want the new is not known yet.
    const isUnwanted = signal.aborted || made?.key !== key
    if (made) this.#o.arrived(made, isUnwanted)
    const isOneMore = !isUnwanted && this.#missing(key) > 0
    if (isOneMore && !this.#wanted.has(key)) this.#wanted.set(key, make)
    // After a while again: a run that comes in between finds a free processor.
    this.#soon()
  }

  async #made(key: string, make: MakeSpare, signal: AbortSignal): Promise<Resident | undefined> {
    try {
      return await make(signal)
    } catch (error) {
      if (signal.aborted) return undefined
      this.#demand.failed(key, this.#o.clock.now())
      this.#o.log('a spare CLI could not be started', { err: error })
      return undefined
    }
  }
}
