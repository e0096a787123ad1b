/** A CLI process as a schedule drives it. It lives in the machine, not in the runner: a killed runner leaves it running. */
import type { CancelMode, CliProcess, TurnEnd, TurnSink } from '../../runner/cli-process.ts'
import type { Time } from './time.ts'

/** How long it takes to die. */
const DIES_AFTER_MS: Record<CancelMode, number> = { interrupt: 1_500, term: 500, kill: 20 }

export type CliEvents = {
  /** The prompt is written: the one thing that must not happen twice. */
  started(cli: Cli): void
  /** A line was read, and `kept` says whether the runner took it over. */
  printed(cli: Cli, line: Uint8Array): void
}

export class Cli implements CliProcess {
  readonly cliVersion = '0.0.0-model'
  readonly run: string
  readonly fence: number
  readonly marker: string
  readonly #time: Time
  readonly #events: CliEvents
  readonly #owner = {}
  /** Only while the runner that spawned it lives. */
  #sink: TurnSink | undefined
  #ended: ((end: TurnEnd) => void) | undefined
  #gone: (() => void)[] = []
  #orphaned = false
  #lastSeq = 0
  alive = true
  paused = false
  /** The prompt was written. */
  started = false

  constructor(parts: { run: string; fence: number; marker: string; time: Time; events: CliEvents }) {
    this.run = parts.run
    this.fence = parts.fence
    this.marker = parts.marker
    this.#time = parts.time
    this.#events = parts.events
  }

  get running(): boolean {
    return this.alive && this.#sink !== undefined
  }

  turn(sink: TurnSink): Promise<TurnEnd> {
    this.started = true
    this.#events.started(this)
    if (!this.alive) return Promise.resolve({ code: null, signal: 'SIGKILL', result: undefined })
    this.#sink = sink
    return new Promise((resolve) => (this.#ended = resolve))
  }

  cancel(mode: CancelMode): Promise<void> {
    if (!this.alive) return Promise.resolve()
    if (!this.#sink) this.die(undefined)
    else this.#time.after(DIES_AFTER_MS[mode], () => this.die('SIGTERM'), this.#owner)
    return this.alive ? new Promise((resolve) => this.#gone.push(resolve)) : Promise.resolve()
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  print(line: Uint8Array): void {
    if (!this.alive || this.paused || !this.#sink) return
    this.#events.printed(this, line)
    this.#lastSeq = this.#sink.line(line)
  }

  /** Exits by itself, with a result or without. */
  finish(withResult: boolean): void {
    if (!this.running) return
    const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
    const result = { seq: this.#lastSeq, is_error: false, cost_usd: 0, usage, num_turns: 1 }
    this.#end({ code: withResult ? 0 : 1, signal: null, result: withResult && this.#lastSeq > 0 ? result : undefined })
  }

  die(signal: string | undefined): void {
    if (this.alive) this.#end({ code: null, signal: signal ?? null, result: undefined })
  }

  /** The runner's process is gone: nobody reads it any more, and nobody hears of its end. */
  orphan(): void {
    this.#orphaned = true
    this.#sink = undefined
    this.#time.drop(this.#owner)
  }

  #end(end: TurnEnd): void {
    this.alive = false
    this.#time.drop(this.#owner)
    if (this.#orphaned) return
    this.#ended?.(end)
    for (const gone of this.#gone.splice(0)) gone()
  }
}
