/**
 * Group commit: whatever runs appended while the last commit was under way becomes the next one.
 *
 * An fsync costs the same for one row as for a thousand, so the log never waits for a timer: it commits when the
 * event loop comes round, and load makes the groups larger by itself. An append that the database refuses for what it is
 * fails alone: those who happened to be in its group have nothing to do with it.
 */
import type { Append } from '../core/runner-core.ts'
import type { Platform, Statement, Store } from '../ports.ts'
import { appendStatements } from '../store/run-events.ts'
import { isRefusedStatement } from '../store/statement-error.ts'

/** SQLite's limits are far away; this bounds how long one commit of as many rows holds the event loop. */
const MAX_GROUP = 256

export type Outcome = 'durable' | 'fenced_out'
type Waiting = { append: Append; outcome: Promise<Outcome>; resolve: (outcome: Outcome) => void; reject: (error: unknown) => void }

/**
 * Makes a group durable: one outcome for each, in their order, which is an error where it could not be kept. Where nothing could,
 * it may reject instead.
 */
export type Commit = (appends: readonly Append[]) => Promise<(Outcome | Error)[]>

/** The database refuses this one append and would do so again; it takes others. */
export class Unwritable extends Error {
  override readonly name = 'Unwritable'
}

/** Of no run, so it changes nothing: whether the database takes appends at all. */
const PROBE: Append = {
  run: '',
  fence: 0,
  rows: [{ first: 1, part: 0, parts: 1, count: 1, kind: 'ev', bytes: new Uint8Array() }],
  upTo: { seq: 0, part: 0 },
}

export class GroupCommitLog {
  readonly #commit: Commit
  readonly #nextTurn: () => Promise<void>
  readonly #weigh: (append: Append) => number
  #waiting: Waiting[] = []
  /** The group that is being committed, also those of it that have been answered. */
  #group: readonly Waiting[] = []
  #flushing = false

  /**
   * `nextTurn` resolves when the event loop has come round: what arrives together until then is one commit. `weigh`: how much of
   * a group an append is, where one that goes to the database as a row of its own is 1; all of them unless told otherwise.
   */
  constructor(commit: Commit, nextTurn: () => Promise<void>, weigh: (append: Append) => number = () => 1) {
    this.#commit = commit
    this.#nextTurn = nextTurn
    this.#weigh = weigh
  }

  /**
   * Resolves, for one run in the order of the calls, when the rows are on disk or were refused by their fence. Rejects with `Unwritable`
   * when they can never be kept; what its run had appended behind them counts as refused. Any other rejection is trouble of
   * the database, and may pass.
   */
  append(append: Append): Promise<Outcome> {
    let settle: Pick<Waiting, 'resolve' | 'reject'> | undefined
    const outcome = new Promise<Outcome>((resolve, reject) => (settle = { resolve, reject }))
    this.#waiting.push({ append, outcome, ...settle! })
    if (!this.#flushing) void this.#flush()
    return outcome
  }

  /** Everything appended so far is durable or has failed. What is appended later is not waited for: under load that has no end. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#group, ...this.#waiting].map(({ outcome }) => outcome))
  }

  async #flush(): Promise<void> {
    this.#flushing = true
    while (this.#waiting.length > 0) {
      await this.#nextTurn()
      const group = this.#waiting.splice(0, this.#groupSize())
      this.#group = group
      try {
        const outcomes = await this.#commit(group.map((w) => w.append))
        await this.#answer(group, outcomes)
      } catch (error) {
        await this.#unkept(group, [error])
      }
    }
    this.#group = []
    this.#flushing = false
  }

  async #answer(group: readonly Waiting[], outcomes: readonly (Outcome | Error)[]): Promise<void> {
    const unkept: Waiting[] = []
    const errors: Error[] = []
    for (const [i, waiting] of group.entries()) {
      const outcome = outcomes[i]!
      if (!(outcome instanceof Error)) waiting.resolve(outcome)
      else if (unkept.push(waiting)) errors.push(outcome)
    }
    if (unkept.length > 0) await this.#unkept(unkept, errors)
  }

  /** Whose fault it was is looked for only where nothing else was wrong. */
  async #unkept(group: readonly Waiting[], errors: readonly unknown[]): Promise<void> {
    if (errors.every(isRefusedStatement)) return this.#oneByOne(group)
    this.#failed(group, errors.find((error) => !isRefusedStatement(error)))
  }

  #groupSize(): number {
    let [size, weight] = [0, 0]
    while (size < this.#waiting.length && weight < MAX_GROUP) weight += this.#weigh(this.#waiting[size++]!.append)
    return size
  }

  /** Nothing of the group was kept, for the sake of one of them. */
  async #oneByOne(group: readonly Waiting[]): Promise<void> {
    const spoilt = new Set<string>()
    for (const [i, waiting] of group.entries()) {
      const { append, resolve, reject } = waiting
      if (spoilt.has(key(append))) continue
      try {
        const [outcome] = await this.#commit([append])
        if (outcome instanceof Error) throw outcome
        resolve(outcome!)
      } catch (error) {
        if (!isRefusedStatement(error) || !(await this.#takesOthers())) return this.#failed(group.slice(i), error)
        spoilt.add(key(append))
        reject(new Unwritable('the database refuses what was appended', { cause: error }))
        this.#refuseBehind(append, group.slice(i + 1))
      }
    }
  }

  async #takesOthers(): Promise<boolean> {
    try {
      const [outcome] = await this.#commit([PROBE])
      return !(outcome instanceof Error)
    } catch {
      return false
    }
  }

  /** What its run appended meanwhile would leave a hole if it were kept. What it appends from now on knows of it. */
  #refuseBehind(append: Append, rest: readonly Waiting[]): void {
    const isIts = (waiting: Waiting) => key(waiting.append) === key(append)
    const behind = [...rest, ...this.#waiting].filter(isIts)
    this.#waiting = this.#waiting.filter((waiting) => !isIts(waiting))
    for (const { resolve } of behind) resolve('fenced_out')
  }

  /** What waits behind a failed append would leave a hole if it were kept. Who has been answered hears nothing of it. */
  #failed(group: readonly Waiting[], error: unknown): void {
    for (const { reject } of [...group, ...this.#waiting.splice(0)]) reject(error)
  }
}

const key = ({ run, fence }: Append) => `${run}.${fence}`

/** One batch behind the log; a store that rejects has kept all of it or nothing. `beside`: what else belongs to the same commit. */
export function sqlCommit(
  store: Store,
  platform: Pick<Platform, 'now'>,
  beside: (append: Append) => Statement[] = () => [],
): (appends: readonly Append[]) => Promise<Outcome[]> {
  return async (appends) => {
    const now = platform.now()
    const parts = appends.map((append) => [...beside(append), ...appendStatements(store.db, append, now)])
    const results = await store.batch(parts.flat())
    let at = 0
    return parts.map((statements) => {
      at += statements.length
      return (results[at - 1] as unknown[]).length > 0 ? 'durable' : 'fenced_out'
    })
  }
}
