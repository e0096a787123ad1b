/** The CLI as a test scripts it: a port of the runner (`CliProcess`) without a process behind it. */
import type { Offer } from '../../shared/frames.ts'
import type { TurnResult } from '../../shared/marks.ts'
import type { CliProcess, TurnEnd, TurnSink } from '../../runner/cli-process.ts'
import { until } from './wait.ts'

/** What it does with one turn. `stopped` resolves to how it is cancelled. */
export type Turn = (sink: TurnSink, offer: Offer, stopped: Promise<string>) => Promise<Partial<TurnEnd> | void>

export function scripted(turn: Turn, offer: Offer): CliProcess {
  let stop: (mode: string) => void = () => undefined
  const stopped = new Promise<string>((resolve) => (stop = resolve))
  let running: Promise<unknown> = Promise.resolve()
  return {
    cliVersion: '0.0.0-test',
    async turn(sink) {
      const end = turn(sink, offer, stopped)
      running = end
      return { code: 0, signal: null, result: undefined, ...(await end) }
    },
    async cancel(mode) {
      stop(mode)
      await running
    },
    pause: () => undefined,
    resume: () => undefined,
  }
}

/** A turn that prints these lines and succeeds with the last one as its result. */
export const print =
  (lines: (offer: Offer) => readonly string[]): Turn =>
  (sink, offer) => {
    let seq = 0
    for (const line of lines(offer)) seq = sink.line(Buffer.from(line))
    return Promise.resolve({ result: resultAt(seq) })
  }

/** A turn that answers with its prompt. */
export const echo = print((offer) => ['{"type":"system"}', JSON.stringify({ type: 'result', result: offer.spec.prompt })])

export function resultAt(seq: number): TurnResult {
  const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
  return { seq, is_error: false, cost_usd: 0.5, usage, num_turns: 1 }
}

export interface Gate {
  readonly turn: Turn
  /** The prompts that have begun, in order. */
  readonly order: readonly string[]
  /** Waits for the turn of this prompt to begin. */
  running(prompt: string): Promise<unknown>
  /** Lets it end, when it has begun. */
  finish(prompt: string): Promise<void>
}

/** A CLI whose turns print one line and end when the test says so, by the prompt. */
export function gate(): Gate {
  const open = new Map<string, () => void>()
  const order: string[] = []
  return {
    order,
    async turn(sink, offer, stopped) {
      const { prompt } = offer.spec
      const seq = sink.line(Buffer.from(JSON.stringify({ prompt })))
      order.push(prompt)
      const ended = await Promise.race([new Promise<'opened'>((resolve) => open.set(prompt, () => resolve('opened'))), stopped])
      return ended === 'opened' ? { result: resultAt(seq) } : {}
    },
    running: (prompt) => until(`${prompt} to run`, () => order.includes(prompt)),
    async finish(prompt) {
      const end = await until(`${prompt} to run`, () => open.get(prompt))
      end()
    },
  }
}
