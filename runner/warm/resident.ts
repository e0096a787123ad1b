/**
 * A CLI process that lives on after its turn, as the pool of warm processes sees it. How one is started and spoken to is
 * runner/claude's business, what it is started for that of prepare.ts.
 */
import type { Seat } from '../gateway/gateway.ts'
import type { CancelMode, TurnEnd, TurnSink } from '../cli-process.ts'

/** One CLI, initialised. It takes one turn at a time. */
export interface LivingCli {
  readonly cliVersion: string
  readonly pid: number
  /** It is alive, no turn is under way, and nothing has happened to it that a next turn must not meet. */
  readonly isIdle: boolean
  /** How many prompts it has been given. */
  readonly turns: number
  /** Resolves when nothing of it is alive, whatever ended it. Never rejects. */
  readonly gone: Promise<void>
  /**
   * Writes the prompt. Resolves when the turn is over and, unless the process is idle again, when nothing of it is left.
   * It stays only if `stay` and if the turn left nothing behind: no process of a tool, and, where it was cancelled, no
   * tool that had begun. Never rejects.
   */
  turn(prompt: string, sink: TurnSink, options: { stay: boolean }): Promise<TurnEnd>
  /** Of the turn that is under way, or of the process if there is none. Resolves when that turn is over, as `turn` says. */
  cancel(mode: CancelMode): Promise<void>
  pause(): void
  resume(): void
}

/** A process of the pool, with what belongs to it alone. */
export interface Resident {
  readonly cli: LivingCli
  /** Of all that was fixed when it was started, but for its session: two with the same may stand in for each other. */
  readonly key: string
  readonly tenant: string
  /** The CLI's own id of the conversation. */
  readonly session: string
  /** A real path. */
  readonly cwd: string
  /** Its place at the gateway, where it does not go its own way to a model. */
  readonly seat?: Seat | undefined
  /** That it lives could not be written down, so it is to end with its turn. */
  readonly once?: boolean
  /** In its environment and that of all its children. */
  readonly marker: string
  /** Takes away what was made for it. Called once, when it is gone. */
  dispose(): Promise<void>
}
