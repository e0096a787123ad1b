/**
 * The text that a run has streamed so far, read from its log: what a client that comes back has missed of the answer.
 *
 * Partial messages say it piece by piece; where there are none, whole messages do. What subagents say is not the answer.
 * A log is read once, however often somebody asks: what was read is kept for the runs that were asked for last, and reading
 * goes on behind it, a page at a time, so that others get their turn in between. What is kept is plain data, which is all
 * that may outlive a request on Workers.
 */
import type { Deps, RunRow } from '../../ports.ts'

const decoder = new TextDecoder()

/** Characters of a text that are kept: the last ones, so that what follows fits. */
export const MAX_CHARS = 512 * 1024
const MAX_KEPT = 16
/** How much of a log one look at its length reads; the next one goes on there. */
const LOOK_BYTES = 1024 * 1024
/** Who reads says so at every page; whoever died while it read is not waited for longer than this. */
const READING_MS = 5_000
const WAIT_MS = 25

interface Kept {
  /** Of the events up to `seq`. */
  text: StreamText
  seq: number
  busyUntil: number
}

const kept = new Map<string, Kept>()

/** Of the events up to `upTo`. One after another for the same run, which the second then finds read. */
export async function textSoFar(deps: Pick<Deps, 'hub' | 'platform'>, row: RunRow, upTo: number): Promise<StreamText> {
  const mine = keptOf(row.id)
  while (mine.busyUntil > deps.platform.now()) await pause(WAIT_MS)
  return readTo(deps, row, mine, { upTo, maxBytes: Infinity })
}

/** How many characters of it there are. Of a long log that nobody has read by now it is a part, and more the next time. */
export async function lengthSoFar(deps: Pick<Deps, 'hub' | 'platform' | 'records'>, row: RunRow): Promise<number> {
  const upTo = await deps.records.lastSeq(row)
  const mine = keptOf(row.id)
  if (mine.busyUntil <= deps.platform.now() && mine.seq < upTo) await readTo(deps, row, mine, { upTo, maxBytes: LOOK_BYTES })
  return mine.text.length
}

function keptOf(run: string): Kept {
  const found = kept.get(run) ?? { text: new StreamText(), seq: 0, busyUntil: 0 }
  kept.delete(run)
  kept.set(run, found)
  const [oldest] = kept.keys()
  if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest)
  return found
}

async function readTo({ hub, platform }: Pick<Deps, 'hub' | 'platform'>, row: RunRow, mine: Kept, { upTo, maxBytes }: { upTo: number; maxBytes: number }): Promise<StreamText> {
  // Two that read at once, as one was slow, have each their own.
  const text = mine.seq <= upTo ? mine.text.copy() : new StreamText()
  let seq = mine.seq <= upTo ? mine.seq : 0
  let left = maxBytes
  const stop = new AbortController()
  try {
    if (seq >= upTo) return text
    mine.busyUntil = platform.now() + READING_MS
    for await (const chunks of hub.events(row, seq, stop.signal)) {
      for (const { kind, first, count, bytes } of chunks) {
        if (first > upTo) break
        if (kind === 'ev') addLines(text, first, bytes, upTo)
        seq = Math.min(upTo, first + count - 1)
        left -= bytes.length
      }
      if (seq > mine.seq) Object.assign(mine, { text: text.copy(), seq })
      if (left <= 0 || seq >= upTo) break
      mine.busyUntil = platform.now() + READING_MS
      await pause(0)
    }
    return text
  } finally {
    mine.busyUntil = 0
    stop.abort()
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

function addLines(text: StreamText, first: number, bytes: Uint8Array, upTo: number): void {
  const lines = decoder.decode(bytes)
  if (!SPEAKS.test(lines)) return
  for (const [i, line] of lines.split('\n').entries()) if (first + i <= upTo) text.add(line)
}

const SPEAKS = /"(?:text_delta|assistant)"/

export class StreamText {
  #pieces = new Tail()
  #whole = new Tail()

  /** A line of the CLI, or nothing. */
  add(line: string): void {
    if (!SPEAKS.test(line)) return
    const said = parse(line)
    if (typeof said?.parent_tool_use_id === 'string') return
    if (said?.type === 'stream_event' && said.event?.delta?.type === 'text_delta') this.#pieces = this.#pieces.with(textIn(said.event.delta))
    if (said?.type !== 'assistant' || !Array.isArray(said.message?.content)) return
    // Nobody will ask for it.
    this.#whole = this.#pieces.length > 0 ? new Tail() : this.#whole.with(said.message.content.map(textIn).join(''))
  }

  /** Goes its own way from here. */
  copy(): StreamText {
    const other = new StreamText()
    other.#pieces = this.#pieces
    other.#whole = this.#whole
    return other
  }

  get #tail(): Tail {
    return this.#pieces.length === 0 ? this.#whole : this.#pieces
  }

  /** Of all of it. */
  get length(): number {
    return this.#tail.length
  }

  /** Not more than the last MAX_CHARS of it. */
  get value(): string {
    return this.#tail.value
  }

  /** As it goes into an answer. */
  get content(): { content: string; truncated?: true } {
    const content = this.value
    return { content, ...(content.length < this.length ? { truncated: true as const } : {}) }
  }
}

/** The end of a text, and how long all of it is. */
class Tail {
  readonly length: number
  readonly #end: string

  constructor(end = '', length = end.length) {
    // Cut now and then, not with every piece.
    this.#end = end.length > 2 * MAX_CHARS ? end.slice(-MAX_CHARS) : end
    this.length = length
  }

  with(more: string): Tail {
    return more === '' ? this : new Tail(this.#end + more, this.length + more.length)
  }

  get value(): string {
    // Never from the middle of a character on.
    return this.#end.slice(-MAX_CHARS).replace(this.length > MAX_CHARS ? /^[\udc00-\udfff]/ : '', '')
  }
}

interface Said {
  readonly type?: unknown
  readonly parent_tool_use_id?: unknown
  readonly event?: { readonly delta?: { readonly type?: unknown; readonly text?: unknown } | null } | null
  readonly message?: { readonly content?: unknown } | null
}

/** A runner may send any line as one of the CLI. */
function parse(line: string): Said | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

function textIn(block: unknown): string {
  const text = typeof block === 'object' && block !== null && 'text' in block ? block.text : undefined
  return typeof text === 'string' ? text : ''
}
