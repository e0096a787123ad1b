/**
 * What was granted to runs, as far as it is needed to understand what is reported of them. In memory only: who has
 * forgotten it loses a probe, which frees itself, and at worst moves a session once too often.
 */
import type { BindingRow } from '../store/bindings.ts'

const MAX_RUNS = 10_000

export interface RunNote {
  /** Who it may use; undefined: nobody here remembers. */
  readonly granted: ReadonlySet<string> | undefined
  /** The provider that its session is with; undefined: with none. */
  bound: string | undefined
  /** Its session was moved once in this run, and is not moved back. */
  moved: boolean
  /** The provider that its session is with failed in it: as a whole, or for some model only. */
  failed: 'wholly' | 'a_model' | undefined
  /** The provider that it is to try, by the name of the claim. `open`: nothing came of it yet, or not of all of it. */
  probe: { readonly provider: string; readonly until: number; open: boolean } | undefined
  /** Where its session is bound to as soon as it has begun. */
  binding: BindingRow | undefined
  /** Every provider was out of order when it was offered last. */
  degraded: boolean
}

export class RunNotes {
  readonly #notes = new Map<string, RunNote>()

  get(run: string): RunNote | undefined {
    return this.#notes.get(run)
  }

  /** Of a run that nobody here remembers. */
  forgotten(): RunNote {
    return { granted: undefined, bound: undefined, moved: false, failed: undefined, probe: undefined, binding: undefined, degraded: false }
  }

  set(run: string, note: RunNote): RunNote {
    const [oldest] = this.#notes.keys()
    if (this.#notes.size >= MAX_RUNS && oldest !== undefined) this.#notes.delete(oldest)
    this.#notes.delete(run)
    this.#notes.set(run, note)
    return note
  }
}
