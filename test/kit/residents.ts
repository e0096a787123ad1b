/** Processes of the pool without a process: they end when they are told to, or when a test says so. */
import type { CancelMode, TurnEnd, TurnSink } from '../../runner/cli-process.ts'
import type { LivingCli, Resident } from '../../runner/warm/resident.ts'

let pids = 1_000

export class PaperCli implements LivingCli {
  readonly cliVersion = 'paper'
  readonly pid = ++pids
  readonly gone: Promise<void>
  readonly cancels: CancelMode[] = []
  turns = 0
  isAlive = true
  isTainted = false
  /** It ends only when `die` is called. */
  isSlow = false
  /** A cancel in a turn ends the turn only. */
  outlivesCancel = false
  #inTurn = false
  #endTurn: (end: TurnEnd) => void = () => undefined
  #go: () => void = () => undefined

  constructor() {
    this.gone = new Promise((resolve) => (this.#go = resolve))
  }

  get isIdle(): boolean {
    return this.isAlive && !this.isTainted && !this.#inTurn && this.cancels.length === 0
  }

  turn(_prompt: string, _sink: TurnSink, _options: { stay: boolean }): Promise<TurnEnd> {
    this.turns += 1
    this.#inTurn = true
    return new Promise((resolve) => (this.#endTurn = resolve))
  }

  finish(): void {
    this.#inTurn = false
    this.#endTurn({ code: null, signal: null, result: undefined })
  }

  async cancel(mode: CancelMode): Promise<void> {
    if (this.#inTurn && this.outlivesCancel) return this.finish()
    this.cancels.push(mode)
    if (!this.isSlow) this.die()
    await this.gone
  }

  die(): void {
    this.isAlive = false
    this.finish()
    this.#go()
  }

  pause(): void {}

  resume(): void {}
}

export class PaperResident implements Resident {
  readonly cli = new PaperCli()
  readonly cwd = '/work'
  readonly marker = crypto.randomUUID()
  readonly key: string
  readonly tenant: string
  readonly session: string
  disposed = 0

  constructor(session: string, key = 'key', tenant = 'main') {
    this.session = session
    this.key = key
    this.tenant = tenant
  }

  async dispose(): Promise<void> {
    this.disposed += 1
  }

  /** It has a turn, from beginning to end. */
  async serve(): Promise<void> {
    const turn = this.cli.turn('', { line: () => 0, batch: () => undefined, mark: () => undefined }, { stay: true })
    this.cli.finish()
    await turn
  }
}
