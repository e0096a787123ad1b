/** A CLI as a run sees it: what it is asked to do, and where its output goes. What it is made of is claude/ and warm/. */
import type { Metered } from '../shared/grants.ts'
import type { GapMark, RawMark, StderrMark, TurnResult } from '../shared/marks.ts'

export type CancelMode = 'interrupt' | 'term' | 'kill'

/** Where a turn's output goes. Synchronous: what was read is kept before anything else is read. */
export interface TurnSink {
  /** An event line without its `\n`; returns its seq. One that `must` be kept is kept beyond the cap of its log. */
  line(bytes: Uint8Array, must?: boolean): number
  /** `count` event lines, each ended by its `\n`. */
  batch(bytes: Uint8Array, count: number): void
  mark(mark: RawMark | GapMark | StderrMark): void
}

export interface TurnEnd {
  readonly code: number | null
  readonly signal: string | null
  readonly result: TurnResult | undefined
  /** What the gateway counted, where it was in between. */
  readonly metered?: Metered
}

/** A prepared CLI: spawned and ready, with nothing sent to a model yet. */
export interface CliProcess {
  readonly cliVersion: string
  /** It was there before the run. */
  readonly warm?: boolean
  /**
   * Writes the prompt. Resolves when the turn is over: its output was read, and nothing of it is left but, where that may stay, the
   * CLI at rest. Never rejects.
   */
  turn(sink: TurnSink): Promise<TurnEnd>
  /** Resolves when the turn is over, as `turn` says. */
  cancel(mode: CancelMode): Promise<void>
  pause(): void
  resume(): void
}
