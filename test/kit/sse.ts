/** Reads a stream of server-sent events to its end, keeping the bytes. */
import { createParser, type EventSourceMessage } from 'eventsource-parser'

/** Asks for a stream. */
export const SSE = { accept: 'text/event-stream' }

export type Stream = { bytes: Buffer; events: EventSourceMessage[]; text: string }

/** True once a client has seen enough and leaves. */
type Enough = (events: readonly EventSourceMessage[]) => boolean

/** `stopAfter` ends the reading early. */
export async function readSse(response: Response, stopAfter?: Enough): Promise<Stream> {
  const events: EventSourceMessage[] = []
  const bytes = await collectSse(response, events, stopAfter)
  return { bytes, events, text: bytes.toString() }
}

/** The same into a list of the caller's, which keeps what was read when the stream breaks. */
export async function collectSse(response: Response, events: EventSourceMessage[], stopAfter?: Enough): Promise<Buffer> {
  const parser = createParser({ onEvent: (event) => events.push(event) })
  const chunks: Uint8Array[] = []
  const decoder = new TextDecoder()
  const reader = response.body!.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    chunks.push(value)
    parser.feed(decoder.decode(value, { stream: true }))
    if (stopAfter?.(events)) {
      await reader.cancel()
      break
    }
  }
  return Buffer.concat(chunks)
}

/** The ids of the events must be exactly these: 1, 2, 3 … */
export function idsOf(events: readonly EventSourceMessage[]): number[] {
  return events.map((event) => Number(event.id))
}

/** What of an SSE stream is the run's: comments and the retry hint differ from one reading to the next. */
export function eventBytes(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString('latin1').replaceAll(/(^|\n\n)(?:: [^\n]*\n\n|retry: \d+\n\n)+/g, '$1'), 'latin1')
}
