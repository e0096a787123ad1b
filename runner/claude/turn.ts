/**
 * One turn as the CLI prints it: its lines go to the turn's sink, and what they say of the turn is kept. Lines that come
 * after the result of a turn that its process may outlive are held, until it is decided whose they are.
 *
 * Which turn a line is read in, and whether the process stays, is the caller's to decide.
 */
import type { TurnResult } from '../../shared/marks.ts'
import type { TurnSink } from '../cli-process.ts'
import type { Costs } from './costs.ts'
import { noteSigns, turnResult, type Signs } from './outcome.ts'
import { PLAIN, readOutput, type News, type Output } from './output.ts'
import type { Piece } from './pieces.ts'

export type TurnParts = {
  sink: TurnSink
  costs: Costs
  /** The process may be kept for another turn. */
  stay: boolean
  /** Called once, with the line that is the result. */
  ended: () => void
}

export class Turn {
  readonly stay: boolean
  /** Resolves at its result. */
  readonly over: Promise<void>
  /** Whether the process stays, when that is decided. */
  readonly stays: Promise<boolean>
  /** The answer to its interrupt, where one was sent. */
  interrupted: Promise<unknown> | undefined
  readonly #parts: TurnParts
  #end = (): void => undefined
  #decide = (_stays: boolean): void => undefined
  #signs: Signs = {}
  #initialized = false
  #result: TurnResult | undefined
  #usedTools = false
  #strayed = false
  #held: Piece[] | undefined

  constructor(parts: TurnParts) {
    this.#parts = parts
    this.stay = parts.stay
    this.over = new Promise((resolve) => (this.#end = resolve))
    this.stays = new Promise((resolve) => (this.#decide = resolve))
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

  /** The CLI may not be what it was: it had a turn of its own, said twice that this one was over, or a tool has changed it. */
  get strayed(): boolean {
    return this.#strayed
  }

  /** What came after its result and went nowhere yet. */
  get held(): readonly Piece[] {
    return this.#held ?? []
  }

  /** A line of the driver's is none of the turn. */
  take(piece: Piece, output: Output | undefined): void {
    const { sink } = this.#parts
    if (this.#held) {
      this.#held.push(piece)
    } else if ('plain' in piece) {
      sink.batch(piece.plain, piece.count)
    } else if ('tooLong' in piece) {
      this.#usedTools = true
      sink.mark({ kind: 'gap', reason: 'line_too_long', bytes: piece.tooLong })
    } else if (output?.kind === 'raw') {
      this.#usedTools = true
      sink.mark(output.mark)
    } else if (output?.kind === 'event') {
      const seq = sink.line(piece.bytes, this.#mustKeep(output.news))
      if (output.news) this.#note(output.news, seq)
    }
  }

  /** Where the process does not stay, what it printed to its end is of this turn. */
  decide(stays: boolean): void {
    const held = this.#held ?? []
    this.#held = undefined
    if (!stays) for (const piece of held) this.take(piece, outputOf(piece))
    this.#decide(stays)
  }

  /** Once each: what else calls itself so may be a tool's. */
  #mustKeep(news: News | undefined): boolean {
    if (news?.type === 'result') return !this.#result
    if (news?.type !== 'init' || this.#initialized) return false
    return (this.#initialized = true)
  }

  #note(news: News, seq: number): void {
    this.#signs = noteSigns(this.#signs, news)
    if (news.type === 'tool') {
      this.#usedTools = true
      if (!news.passes) this.#strayed = true
    }
    if (news.type !== 'result' && news.type !== 'unasked') return
    const total_cost_usd = this.#parts.costs.since(news.result.total_cost_usd)
    if (news.type === 'unasked' || this.#result) {
      this.#strayed = true
      return
    }
    this.#result = turnResult(seq, { ...news.result, total_cost_usd }, this.#signs)
    if (this.stay) this.#held = []
    this.#parts.ended()
    this.#end()
  }
}

export function outputOf(piece: Piece): Output | undefined {
  if ('plain' in piece) return PLAIN
  return 'bytes' in piece ? readOutput(piece.bytes) : undefined
}
