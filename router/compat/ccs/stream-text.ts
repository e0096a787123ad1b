/**
 * The text that a run has streamed so far, read from its log: what a client that comes back has missed of the answer.
 *
 * Partial messages say it piece by piece; where there are none, whole messages do. What subagents say is not the answer.
 */
import type { Deps, RunRow } from '../../ports.ts'

const decoder = new TextDecoder()

/** Of the events up to `upTo`. */
export async function textSoFar({ hub }: Pick<Deps, 'hub'>, row: RunRow, upTo: number): Promise<string> {
  const text = new StreamText()
  const stop = new AbortController()
  try {
    if (upTo > 0) {
      for await (const chunks of hub.events(row, 0, stop.signal)) {
        for (const { kind, first, bytes } of chunks) if (kind === 'ev') addLines(text, first, bytes, upTo)
        const last = chunks.at(-1)
        if (last && last.first + last.count > upTo) break
      }
    }
  } finally {
    stop.abort()
  }
  return text.value
}

function addLines(text: StreamText, first: number, bytes: Uint8Array, upTo: number): void {
  for (const [i, line] of decoder.decode(bytes).split('\n').entries()) if (first + i <= upTo) text.add(line)
}

export class StreamText {
  #pieces = ''
  #whole = ''

  /** A line of the CLI, or nothing. */
  add(line: string): void {
    if (!/^\s*\{.*"(?:text_delta|assistant)"/.test(line)) return
    const said = parse(line)
    if (typeof said?.parent_tool_use_id === 'string') return
    if (said?.type === 'stream_event' && said.event?.delta?.type === 'text_delta') this.#pieces += textIn(said.event.delta)
    if (said?.type === 'assistant' && Array.isArray(said.message?.content)) this.#whole += said.message.content.map(textIn).join('')
  }

  get value(): string {
    return this.#pieces === '' ? this.#whole : this.#pieces
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
