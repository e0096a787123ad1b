/**
 * One run's turn at a process that may have been there before it and may be there after it: what pays for it, what happens
 * when the process has died meanwhile, and to whom it belongs afterwards. Before its turn and after it, nothing that is
 * said to the run reaches the process: by then it may be another one's.
 */
import type { Purse } from '../gateway/purse.ts'
import type { CancelMode, CliProcess, TurnEnd, TurnSink } from '../cli-process.ts'
import type { Resident } from './resident.ts'

export interface TurnParts {
  readonly resident: Resident
  /** It was there before the run. */
  readonly warm: boolean
  /** With its mentions guarded. */
  readonly prompt: string
  /** Whether the process may stay after it. */
  readonly stay: boolean
  /** What pays, at the seat of the process. */
  readonly purse?: Purse | undefined
  /** Another one in the place of one that died before it had the prompt. */
  replace(dead: Resident, signal: AbortSignal): Promise<Resident>
  giveBack(resident: Resident): void
  log(message: string, fields: Record<string, unknown>): void
}

const NOTHING: TurnEnd = { code: null, signal: null, result: undefined }

export class Turn implements CliProcess {
  readonly warm: boolean
  readonly #parts: TurnParts
  readonly #withdrawn = new AbortController()
  #resident: Resident
  #phase: 'before' | 'replacing' | 'during' | 'after' = 'before'
  #paused = false

  constructor(parts: TurnParts) {
    this.#parts = parts
    this.#resident = parts.resident
    this.warm = parts.warm
  }

  get cliVersion(): string {
    return this.#resident.cli.cliVersion
  }

  async turn(sink: TurnSink): Promise<TurnEnd> {
    if (this.#phase !== 'before') return NOTHING
    if (!this.#resident.cli.isIdle && !(await this.#replaced())) return NOTHING
    const said = this.#resident.cli.turns
    const end = await this.#play(sink)
    // It died at the last moment. Once only: one that dies each time has a reason.
    if (this.#resident.cli.turns > said || this.#withdrawn.signal.aborted || !(await this.#replaced())) return this.#over(end)
    return this.#over(await this.#play(sink))
  }

  async #play(sink: TurnSink): Promise<TurnEnd> {
    const { prompt, stay, purse } = this.#parts
    const { cli, seat, once } = this.#resident
    this.#phase = 'during'
    if (this.#paused) cli.pause()
    if (purse) seat?.begin(purse)
    const end = await cli.turn(prompt, sink, { stay: stay && once !== true })
    const metered = purse && (await seat?.end())
    return metered ? { ...end, metered } : end
  }

  #over(end: TurnEnd): TurnEnd {
    this.#phase = 'after'
    this.#parts.giveBack(this.#resident)
    return end
  }

  async cancel(mode: CancelMode): Promise<void> {
    this.#withdrawn.abort()
    if (this.#phase === 'during') return this.#resident.cli.cancel(mode)
    if (this.#phase !== 'before') return
    this.#phase = 'after'
    // One that was started for this run has the id of its session, which nobody else may have.
    if (!this.warm) await this.#resident.cli.cancel(mode)
    this.#parts.giveBack(this.#resident)
  }

  pause(): void {
    this.#paused = true
    if (this.#phase === 'during') this.#resident.cli.pause()
  }

  resume(): void {
    this.#paused = false
    if (this.#phase === 'during') this.#resident.cli.resume()
  }

  /** False: there is no other one, or nobody wants it any more. */
  async #replaced(): Promise<boolean> {
    this.#phase = 'replacing'
    const dead = this.#resident
    await dead.cli.cancel('kill')
    this.#parts.giveBack(dead)
    try {
      this.#resident = await this.#parts.replace(dead, this.#withdrawn.signal)
    } catch (error) {
      this.#phase = 'after'
      if (!this.#withdrawn.signal.aborted) this.#parts.log('a process that had died could not be replaced', { err: error })
      return false
    }
    if (!this.#withdrawn.signal.aborted) return true
    this.#phase = 'after'
    await this.#resident.cli.cancel('kill')
    this.#parts.giveBack(this.#resident)
    return false
  }
}
