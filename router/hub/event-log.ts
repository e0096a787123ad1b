/**
 * Group commit: whatever runs appended while the last commit was under way becomes the next one.
 *
 * An fsync costs the same for one row as for a thousand, so the log never waits for a timer: it commits when the
 * event loop comes round, and load makes the groups larger by itself.
 */
import type { Append } from '../core/runner-core.ts'
import type { Platform, Statement, Store } from '../ports.ts'
import { appendStatements } from '../store/run-events.ts'

/** SQLite's limits are far away; this bounds how long one commit holds the event loop. */
const MAX_GROUP = 256

export type Outcome = 'durable' | 'fenced_out'
type Waiting = { append: Append; resolve: (outcome: Outcome) => void; reject: (error: unknown) => void }

/** Makes a group durable, all of it or nothing: one outcome for each, in their order. Rejects when nothing was kept. */
export type Commit = (appends: readonly Append[]) => Promise<Outcome[]>

export class GroupCommitLog {
  readonly #commit: Commit
  readonly #nextTurn: () => Promise<void>
  #waiting: Waiting[] = []
  #flushing = false
  #last: Promise<unknown> = Promise.resolve()

  /** `nextTurn` resolves when the event loop has come round: what arrives together until then is one commit. */
  constructor(commit: Commit, nextTurn: () => Promise<void>) {
    this.#commit = commit
    this.#nextTurn = nextTurn
  }

  /** Resolves in the order of the calls, when the rows are on disk or were refused by their fence. */
  append(append: Append): Promise<Outcome> {
    const outcome = new Promise<Outcome>((resolve, reject) => {
      this.#waiting.push({ append, resolve, reject })
      if (!this.#flushing) void this.#flush()
    })
    this.#last = outcome.catch(() => undefined)
    return outcome
  }

  /** Everything appended so far is durable or has failed. What is appended later is not waited for: under load that has no end. */
  async settled(): Promise<void> {
    await this.#last
  }

  async #flush(): Promise<void> {
    this.#flushing = true
    while (this.#waiting.length > 0) {
      await this.#nextTurn()
      const group = this.#waiting.splice(0, MAX_GROUP)
      try {
        const outcomes = await this.#commit(group.map((w) => w.append))
        for (const [i, waiting] of group.entries()) waiting.resolve(outcomes[i]!)
      } catch (error) {
        // What waits behind a failed append would leave a hole if it were kept.
        for (const waiting of [...group, ...this.#waiting.splice(0)]) waiting.reject(error)
      }
    }
    this.#flushing = false
  }
}

/** One batch behind the log; a store that rejects has kept all of it or nothing. `beside`: what else belongs to the same commit. */
export function sqlCommit(
  store: Store,
  platform: Pick<Platform, 'now'>,
  beside: (append: Append) => Statement[] = () => [],
): Commit {
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
