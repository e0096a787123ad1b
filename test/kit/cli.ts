/** A CLI process that a test drives by hand, behind the runner's own port for one. */
import type { CancelMode, CliProcess, TurnEnd, TurnSink } from '../../runner/cli-process.ts'
import type { Prepared } from '../../runner/held-run.ts'

export class HandCli implements CliProcess {
  readonly cliVersion = '9.9.9-test'
  readonly cancels: CancelMode[] = []
  turns = 0
  disposed = 0
  paused = false
  /** What a cancel ends the turn with. */
  onCancel: Partial<TurnEnd> = { code: null, signal: 'SIGTERM' }
  /** Resolves when the prompt has been written. */
  readonly started: Promise<TurnSink>
  #start: (sink: TurnSink) => void = () => undefined
  readonly #ended: Promise<TurnEnd>
  #end: (end: TurnEnd) => void = () => undefined

  constructor() {
    this.started = new Promise((resolve) => (this.#start = resolve))
    this.#ended = new Promise((resolve) => (this.#end = resolve))
  }

  turn(sink: TurnSink): Promise<TurnEnd> {
    this.turns++
    this.#start(sink)
    return this.#ended
  }

  exit(end: Partial<TurnEnd> = {}): void {
    this.#end({ code: 0, signal: null, result: undefined, ...end })
  }

  async cancel(mode: CancelMode): Promise<void> {
    this.cancels.push(mode)
    this.exit(this.onCancel)
    await Promise.resolve()
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  get prepared(): Prepared {
    return {
      process: this,
      cwd: '/work',
      provider: 'local',
      dispose: () => {
        this.disposed++
        return Promise.resolve()
      },
    }
  }
}
