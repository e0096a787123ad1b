/**
 * Lines that a CLI prints between two turns: they are nobody's. They are counted and logged, by type and without their
 * text, and what they cost is taken off the next turn.
 *
 * CLI 2.1.197 prints nothing there: within 2.5 s after the result not one line came, with and without tools and partial
 * messages, after an API error, and after an interrupt (whose answer comes before the result). What it can print, where
 * something ended in the background, is a turn of its own: init, its messages, and a result with an `origin`. No prompt
 * may be written into the middle of that.
 */
import type { Costs } from './costs.ts'
import type { Output } from './output.ts'
import type { Piece } from './pieces.ts'

/** More than this is not the CLI's, and nobody reads it. */
const MAX_LINES = 100
const MAX_BYTES = 1_048_576
const MAX_KINDS = 16

type Log = (message: string, fields: Record<string, unknown>) => void

/** Those of one pause between two turns. */
export class Strays {
  readonly #costs: Costs
  readonly #log: Log
  readonly #kinds = new Map<string, number>()
  #lines = 0
  #bytes = 0
  #trouble: string | undefined

  constructor(costs: Costs, log: Log) {
    this.#costs = costs
    this.#log = log
  }

  /** Why the process is not to be given another prompt. */
  get trouble(): string | undefined {
    return this.#trouble
  }

  take(piece: Piece, output: Output | undefined): void {
    const { type, subtype, lines, bytes } = contentOf(piece, output)
    this.#lines += lines
    this.#bytes += bytes
    const kind = type === undefined ? 'no event' : subtype === undefined ? type : `${type}/${subtype}`
    if (this.#kinds.has(kind) || this.#kinds.size < MAX_KINDS) this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + lines)
    const news = output?.kind === 'event' ? output.news : undefined
    if (news?.type === 'result' || news?.type === 'unasked') {
      const cost_usd = this.#costs.since(news.result.total_cost_usd)
      this.#log('a turn that nobody asked for has ended', { cost_usd, num_turns: news.result.num_turns })
    }
    // With an `origin` it ended what the CLI had begun. Without one it is no telling what it was the end of.
    if (news?.type === 'result') this.#trouble ??= 'it printed a result between two turns'
    if (news?.type === 'init' || OF_A_TURN.has(type ?? '')) this.#trouble ??= 'it began a turn of its own'
    if (this.#lines > MAX_LINES || this.#bytes > MAX_BYTES) this.#trouble ??= 'it printed too much between two turns'
  }

  /** To be called at the end of the pause. */
  tell(): void {
    if (this.#lines === 0) return
    this.#log('the CLI printed between two turns', { lines: this.#lines, bytes: this.#bytes, kinds: Object.fromEntries(this.#kinds) })
  }
}

const OF_A_TURN = new Set(['assistant', 'stream_event', 'user'])
/** What else may stand there is text. */
const NAME = /^[a-z_]{1,40}$/

function contentOf(piece: Piece, output: Output | undefined): { type?: string; subtype?: string; lines: number; bytes: number } {
  if ('plain' in piece) return { type: 'stream_event', lines: piece.count, bytes: piece.plain.length - piece.count }
  if ('tooLong' in piece) return { lines: 1, bytes: piece.tooLong }
  const [type, subtype] = output?.kind === 'event' ? typesOf(piece.bytes) : []
  return { lines: 1, bytes: piece.bytes.length, ...(type === undefined ? {} : { type }), ...(subtype === undefined ? {} : { subtype }) }
}

function typesOf(bytes: Uint8Array): string[] {
  const json = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')) as Record<string, unknown>
  const names = [json['type'], json['subtype']].filter((name) => name !== undefined)
  return names.map((name) => (typeof name === 'string' && NAME.test(name) ? name : 'unknown'))
}
