/**
 * What a CLI prints in one turn: its lines go to the turn's sink, and what they say of the turn is kept.
 *
 * Whose turn a line belongs to, and what follows from the result, is the caller's to decide.
 */
import type { Line } from '../../shared/lines.ts'
import type { TurnResult } from '../../shared/marks.ts'
import type { TurnSink } from '../held-run.ts'
import type { Costs } from './costs.ts'
import { noteSigns, turnResult, type Signs } from './outcome.ts'
import { readOutput, type News, type Output } from './output.ts'

export class TurnOutput {
  readonly #sink: TurnSink
  readonly #costs: Costs
  readonly #ended: () => void
  #signs: Signs = {}
  #initialized = false
  #result: TurnResult | undefined
  #usedTools = false
  #strayed = false

  /** `ended` is called once, with the line that is the result. */
  constructor(sink: TurnSink, costs: Costs, ended: () => void) {
    this.#sink = sink
    this.#costs = costs
    this.#ended = ended
  }

  get result(): TurnResult | undefined {
    return this.#result
  }

  get isOver(): boolean {
    return this.#result !== undefined
  }

  /** A tool or a hook was started, or something was printed that could not be read. */
  get usedTools(): boolean {
    return this.#usedTools
  }

  /** The CLI had a turn of its own meanwhile, or said twice that this one was over. */
  get strayed(): boolean {
    return this.#strayed
  }

  /** What is the driver's to answer is no line of the turn. */
  take(line: Line, output: Output | undefined = 'bytes' in line ? readOutput(line.bytes) : undefined): void {
    if ('tooLong' in line) {
      this.#usedTools = true
      this.#sink.mark({ kind: 'gap', reason: 'line_too_long', bytes: line.tooLong })
    } else if (output?.kind === 'raw') {
      this.#usedTools = true
      this.#sink.mark(output.mark)
    } else if (output?.kind === 'event') {
      const seq = this.#sink.line(line.bytes, this.#mustKeep(output.news))
      if (output.news) this.#note(output.news, seq)
    }
  }

  /** Once each: what else calls itself so may be a tool's. */
  #mustKeep(news: News | undefined): boolean {
    if (news?.type === 'result') return !this.#result
    if (news?.type !== 'init' || this.#initialized) return false
    return (this.#initialized = true)
  }

  #note(news: News, seq: number): void {
    this.#signs = noteSigns(this.#signs, news)
    if (news.type === 'tool') this.#usedTools = true
    if (news.type !== 'result' && news.type !== 'unasked') return
    const costUsd = this.#costs.since(news.result.total_cost_usd)
    if (news.type === 'unasked' || this.#result) {
      this.#strayed = true
      return
    }
    this.#result = turnResult(seq, { ...news.result, total_cost_usd: costUsd }, this.#signs)
    this.#ended()
  }
}
