/**
 * What an answer says it cost in tokens, read from a copy of its bytes as they pass. It never holds them up, keeps at most
 * `KEPT_CHARS` of them, and what it cannot read it does not count.
 */
import { createParser } from 'eventsource-parser'
import { z } from 'zod'
import type { Outcome, Tokens } from '../../shared/grants.ts'
import { outcomeOfType } from './outcome.ts'

/** One event of a stream, or one whole JSON body: 64 Ki tokens of text with some room. */
const KEPT_CHARS = 4 * 1024 * 1024

const Count = z.number().nonnegative().nullish().catch(undefined)
const Usage = z.object({
  input_tokens: Count,
  output_tokens: Count,
  cache_creation_input_tokens: Count,
  cache_read_input_tokens: Count,
})
const Spoken = z.object({
  type: z.string().catch(''),
  usage: Usage.optional().catch(undefined),
  message: z.object({ usage: Usage.optional().catch(undefined) }).optional().catch(undefined),
  error: z.object({ type: z.string() }).optional().catch(undefined),
})
type Spoken = z.infer<typeof Spoken>

export interface Meter {
  push(chunk: Uint8Array): void
  /** To be called once, after the last chunk. */
  end(): void
  readonly tokens: Tokens | null
  /** Of an answer that turned out to be an error behind its 200. */
  readonly trouble: Outcome | undefined
  /** The last event of a stream is through; what is cut after it is missed by nobody. */
  readonly complete: boolean
  /** The count at the end of an answer was there: `tokens` is all of it. */
  readonly hasTotal: boolean
}

export function meter(contentType: string): Meter {
  if (contentType.startsWith('text/event-stream')) return new StreamMeter()
  return contentType.startsWith('application/json') ? new BodyMeter() : new NoMeter()
}

class Counted {
  tokens: Tokens | null = null
  trouble: Outcome | undefined
  complete = false
  hasTotal = false

  /** Counts of a stream grow: of two the greater one is the newer, and a provider may leave one at 0 that it told before. */
  note(text: string): void {
    const spoken = read(text)
    if (!spoken) return
    if (spoken.type === 'message_stop') this.complete = true
    if (spoken.type === 'error') this.trouble ??= outcomeOfType(spoken.error?.type ?? '')
    const usage = spoken.usage ?? spoken.message?.usage
    if (!usage) return
    // The output count of the event that begins a stream is only a first guess.
    if (spoken.type !== 'message_start' && typeof usage.output_tokens === 'number') this.hasTotal = true
    const most = (name: keyof Tokens): number => Math.max(this.tokens?.[name] ?? 0, usage[name] ?? 0)
    this.tokens = {
      input_tokens: most('input_tokens'),
      output_tokens: most('output_tokens'),
      cache_creation_input_tokens: most('cache_creation_input_tokens'),
      cache_read_input_tokens: most('cache_read_input_tokens'),
    }
  }
}

/** Deltas of text are most of a stream, and nothing is in them. */
const SILENT = /^\s*\{\s*"type"\s*:\s*"(?!message_start|message_delta|message_stop|error)|^\s*$/

class StreamMeter extends Counted implements Meter {
  readonly #decoder = new TextDecoder()
  readonly #parser = createParser({
    maxBufferSize: KEPT_CHARS,
    onEvent: ({ data }) => {
      if (!SILENT.test(data)) this.note(data)
    },
    onError: ({ type }) => {
      if (type === 'max-buffer-size-exceeded') this.#lost = true
    },
  })
  #lost = false

  push(chunk: Uint8Array): void {
    if (!this.#lost) this.#parser.feed(this.#decoder.decode(chunk, { stream: true }))
  }

  end(): void {
    if (!this.#lost) this.#parser.reset({ consume: true })
  }
}

class BodyMeter extends Counted implements Meter {
  readonly #decoder = new TextDecoder()
  #text = ''
  #lost = false

  push(chunk: Uint8Array): void {
    if (this.#lost) return
    this.#text += this.#decoder.decode(chunk, { stream: true })
    if (this.#text.length <= KEPT_CHARS) return
    this.#lost = true
    this.#text = ''
  }

  end(): void {
    if (!this.#lost) this.note(this.#text)
    this.#text = ''
  }
}

class NoMeter implements Meter {
  readonly tokens = null
  readonly trouble = undefined
  readonly complete = false
  readonly hasTotal = false
  push(): void {}
  end(): void {}
}

function read(text: string): Spoken | undefined {
  try {
    return Spoken.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
