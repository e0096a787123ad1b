/**
 * What a fault is: a name, a time, what it excuses, and an act on the stage.
 *
 * An act injects at least once, goes on until its time is over, and leaves everything running again.
 */
import type { Plan } from './load.ts'
import type { HostName } from './routers.ts'
import type { Runner, Stage } from './stage.ts'

export interface Act {
  readonly stage: Stage
  /** Marks the moment of a fault; the gaps of the clients are measured from here. */
  inject(): void
  /** Ends early when the whole is stopped. */
  pause(ms: number): Promise<void>
  readonly over: boolean
  /** Clients begin no run any more; resolves when none is under way, and none is asked for. */
  lull(): Promise<void>
  /** After a lull: the clients go on, all at once. Resolves when the first of them has its run. */
  goOn(): Promise<void>
  /** A number worth showing in the table: the greatest of each name is kept. */
  note(name: string, value: number): void
}

export interface Fault {
  readonly name: string
  readonly what: string
  /** It is one of this host only; else it can be done to either. */
  readonly host?: HostName
  /** How long it acts in the default form. */
  readonly seconds: number
  /** It cannot be shorter. */
  readonly leastSeconds?: number
  /** Why the short form does without it. */
  readonly notInCi?: string
  /** Error codes with which it excuses a run to fail. */
  readonly mayFail?: readonly string[]
  /** What the runner had not read yet may be missing. */
  readonly killsRunner?: boolean
  /** The second subscriber of each run does not read for so long; each client has one run only then. */
  readonly stallMs?: number
  readonly plan?: (random: () => number) => Plan
  /** Of each session; 1 unless it is said. */
  readonly turns?: number
  /** More lines of the runners' `runner.toml`. */
  readonly policy?: string
  /** More environment for a runner. */
  readonly env?: (runner: Pick<Runner, 'dataDir'>) => Record<string, string>
  /** Why it cannot be done here. */
  skip?(): string | undefined
  before?(stage: Stage): Promise<void>
  act(act: Act): Promise<void>
  after?(stage: Stage): Promise<void>
}

export const pick = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)]!
export const between = (min: number, max: number) => min + Math.random() * (max - min)

/** Notes how long the router takes to see that a runner is gone. */
export async function foundDead(act: Act, runner: Runner): Promise<void> {
  const since = performance.now()
  await act.stage.untilOnline(runner, false, 40_000)
  act.note('found dead after s', (performance.now() - since) / 1_000)
}

/** Notes how long a runner takes to be back. */
export async function back(act: Act, runner: Runner): Promise<void> {
  const since = performance.now()
  await act.stage.untilOnline(runner)
  act.note('runner back after s', (performance.now() - since) / 1_000)
}
