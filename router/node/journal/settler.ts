/** Brings what is held into the database: by itself in slices, and in front of what moves a run. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Append } from '../../core/runner-core.ts'
import type { Outcome } from '../../hub/event-log.ts'
import type { Log } from '../../ports.ts'
import { isRefusedStatement } from '../../store/statement-error.ts'
import type { Held } from './held.ts'
import { Serial } from './serial.ts'

/** How long one transaction of many may hold the event loop: a few milliseconds. */
const SLICE = { bytes: 512 * 1024, runs: 64 } as const
/** Where nobody waits for the end of it, each slice is followed by a rest of this many times as long. */
const REST = 9

/** What the database does with appends, all of them or none. */
export type DatabaseCommit = (appends: readonly Append[]) => Promise<Outcome[]>

export interface SettlerParts {
  readonly commit: DatabaseCommit
  /** The newest whole event of a run that the database has. */
  readonly endOf: (run: string) => Promise<number>
  readonly log: Log
  readonly nextTurn: () => Promise<void>
}

/** `count` rows that are held of a run, as one append. */
type HeldAppend = { readonly append: Append; readonly count: number; readonly isAll: boolean }

export class Settler {
  readonly #held: Held
  readonly #parts: SettlerParts
  /** What is held of a run must not go to the database twice. */
  readonly #alone = new Serial()
  /** Runs of which a transaction failed with what is held: that does not prove that nothing was kept. */
  readonly #unsure = new Set<string>()
  /** Runs that lack something, for what the database said of it: all they can get is the loss of the rest. */
  readonly #broken = new Map<string, unknown>()

  constructor(held: Held, parts: SettlerParts) {
    this.#held = held
    this.#parts = parts
  }

  /** Its next rows belong behind those that are held of it. */
  isSound(run: string): boolean {
    return !this.#unsure.has(run) && !this.#broken.has(run)
  }

  /** One transaction of these, behind all that is held of their runs. Where that is much, most of it goes ahead in slices. */
  async with(appends: readonly Append[]): Promise<Outcome[]> {
    const runs = [...new Set(appends.map(({ run }) => run))]
    for (const left = [...runs]; left.length > 0 && this.#held.bytesOf(runs) > SLICE.bytes; ) {
      await this.#alone.run(() => this.#keepSlice(left))
      await this.#parts.nextTurn()
    }
    // In one, from the look to the commit: a slice of the settling between them could be kept unseen, or be refused.
    return this.#alone.run(async () => {
      await this.#makeSure(runs)
      for (const { run, loss } of appends) if (!loss && this.#broken.has(run)) throw this.#broken.get(run)
      const outcomes = await this.#keep(runs.flatMap((run) => this.#heldOf(run, Infinity) ?? []), appends)
      for (const { run } of appends) this.#broken.delete(run)
      return outcomes
    })
  }

  /**
   * All that is held now, in slices, so that others come between, and with rests until `hurry` says that somebody waits for it.
   * False: the database does not take it for now.
   */
  async settle(hurry: AbortSignal): Promise<boolean> {
    const runs = this.#held.runs()
    try {
      while (runs.length > 0) {
        const tookMs = await this.#alone.run(async () => {
          const since = performance.now()
          await this.#keepSlice(runs)
          return performance.now() - since
        })
        await this.#parts.nextTurn()
        if (runs.length > 0) await sleep(tookMs * REST, undefined, { signal: hurry, ref: false }).catch(() => undefined)
      }
      return true
    } catch (error) {
      this.#parts.log.error({ err: error }, 'what the journal holds could not go to the database')
      return false
    }
  }

  /** Takes its runs from these, as `#slice` does. */
  async #keepSlice(runs: string[]): Promise<void> {
    await this.#makeSure(runs)
    const slice = this.#slice(runs)
    try {
      await this.#keep(slice, [])
    } catch (error) {
      if (!isRefusedStatement(error)) throw error
      for (const one of slice) await this.#keep([one], []).catch((its: unknown) => this.#drop(one, its))
    }
  }

  /**
   * What the database refuses it refuses again, and all others would wait for it. What is behind it goes too: the log would
   * have a hole that nothing names.
   */
  #drop({ append: { run, rows } }: HeldAppend, error: unknown): void {
    if (!isRefusedStatement(error)) throw error
    const which = { run, from: rows[0]?.first, to: this.#held.lastSeq(run) }
    this.#parts.log.error({ err: error, ...which }, 'events of a run are lost: the database refuses them')
    this.#held.release(run, Infinity)
    this.#broken.set(run, error)
  }

  /** What the database has after all of these is not brought there again: it would be refused, and taken for lost. */
  async #makeSure(runs: readonly string[]): Promise<void> {
    for (const run of this.#unsure.size > 0 ? runs : []) {
      if (!this.#unsure.has(run)) continue
      this.#held.releaseTo(run, await this.#parts.endOf(run))
      this.#unsure.delete(run)
    }
  }

  async #keep(held: readonly HeldAppend[], appends: readonly Append[]): Promise<Outcome[]> {
    let outcomes: Outcome[]
    try {
      outcomes = await this.#parts.commit([...held.map(({ append }) => append), ...appends])
    } catch (error) {
      if (!isRefusedStatement(error)) for (const { append: { run } } of held) this.#unsure.add(run)
      throw error
    }
    for (const [i, { append: { run }, count }] of held.entries()) {
      const isLate = outcomes[i] === 'fenced_out'
      if (isLate) this.#parts.log.error({ run, rows: count }, 'events of a run that had ended were in the journal')
      this.#held.release(run, count)
    }
    return outcomes.slice(held.length)
  }

  /** Takes from `runs` what one transaction is to have; of a run that has more, the rest is for the next one. */
  #slice(runs: string[]): HeldAppend[] {
    const slice: HeldAppend[] = []
    let bytes = 0
    while (runs.length > 0 && slice.length < SLICE.runs && bytes < SLICE.bytes) {
      const held = this.#heldOf(runs.at(-1)!, SLICE.bytes - bytes)
      if (held) slice.push(held)
      bytes += held?.append.rows.reduce((sum, row) => sum + row.bytes.length, 0) ?? 0
      if (!held || held.isAll) runs.pop()
      // The rest of it is behind this, and cannot be taken before this is released.
      else break
    }
    return slice
  }

  #heldOf(run: string, maxBytes: number): HeldAppend | undefined {
    const held = this.#held.take(run, maxBytes)
    if (!held) return undefined
    const { fence, rows, count, isAll } = held
    const last = rows.at(-1)!
    return { count, isAll, append: { run, fence, rows, upTo: { seq: last.first + last.count - 1, part: 0 } } }
  }
}
