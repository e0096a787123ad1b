/**
 * How an answer of the Messages API looks on the wire: as server-sent events, or as one JSON body.
 *
 * Only the shapes that the CLI reads are here. What is said, how fast and to whom is decided by the caller: the demo
 * model ships, the scripted model of the tests imports this file.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { z } from 'zod'

/** A text block is written one delta per string; a tool call is written with its whole input in one delta. */
export type Block =
  | { type: 'text'; deltas: readonly string[] }
  | { type: 'tool_use'; id: string; name: string; input: Readonly<Record<string, unknown>> }
export type Usage = { input_tokens: number; output_tokens: number }
export type Answer = { id: string; model: string; blocks: readonly Block[]; usage: Usage; stopReason?: string }

const ContentBlock = z.looseObject({ type: z.string(), text: z.string().optional() })
/** What is read of a request; the CLI sends more, and it is kept. */
export const MessagesRequest = z.looseObject({
  model: z.string(),
  stream: z.boolean().optional(),
  messages: z.array(z.looseObject({ role: z.string(), content: z.union([z.string(), z.array(ContentBlock)]) })),
  tools: z.array(z.looseObject({ name: z.string() })).optional(),
})
export type MessagesRequest = z.infer<typeof MessagesRequest>

export function frame(event: string, fields: object): string {
  return `event: ${event}\ndata: ${JSON.stringify({ type: event, ...fields })}\n\n`
}

function stopReason({ stopReason: given, blocks }: Answer): string {
  return given ?? (blocks.at(-1)?.type === 'tool_use' ? 'tool_use' : 'end_turn')
}

const NO_CACHE = { cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }

/** The frames of an answer in order, ending with `message_stop`. */
export function* answerFrames(answer: Answer): Generator<string> {
  const { id, model, usage } = answer
  // As the real API does: the output count of `message_start` is only a first guess, `message_delta` has the total.
  const firstUsage = { ...NO_CACHE, input_tokens: usage.input_tokens, output_tokens: Math.min(1, usage.output_tokens) }
  const message = {
    id,
    type: 'message',
    role: 'assistant',
    model,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: firstUsage,
  }
  yield frame('message_start', { message })
  for (const [index, block] of answer.blocks.entries()) {
    if (block.type === 'text') {
      yield frame('content_block_start', { index, content_block: { type: 'text', text: '' } })
      for (const text of block.deltas) yield frame('content_block_delta', { index, delta: { type: 'text_delta', text } })
    } else {
      yield frame('content_block_start', {
        index,
        content_block: { type: 'tool_use', id: block.id, name: block.name, input: {} },
      })
      const partial_json = JSON.stringify(block.input)
      yield frame('content_block_delta', { index, delta: { type: 'input_json_delta', partial_json } })
    }
    yield frame('content_block_stop', { index })
  }
  yield frame('message_delta', {
    delta: { stop_reason: stopReason(answer), stop_sequence: null },
    usage: { ...NO_CACHE, ...usage },
  })
  yield frame('message_stop', {})
}

/** The same answer as the body of a request with `stream: false`. */
export function answerBody(answer: Answer): object {
  const content = answer.blocks.map((block) => (block.type === 'text' ? { type: 'text', text: block.deltas.join('') } : block))
  const { id, model, usage } = answer
  return {
    id,
    type: 'message',
    role: 'assistant',
    model,
    content,
    stop_reason: stopReason(answer),
    stop_sequence: null,
    usage: { ...NO_CACHE, ...usage },
  }
}

export function errorBody(type: string, message: string): object {
  return { type: 'error', error: { type, message } }
}

/** Cuts text into at most `count` deltas, never between the halves of a surrogate pair. */
export function cutDeltas(text: string, count: number): string[] {
  const size = Math.max(1, Math.ceil(text.length / Math.max(1, count)))
  const deltas: string[] = []
  for (let at = 0; at < text.length;) {
    let end = Math.min(text.length, at + size)
    const last = text.charCodeAt(end - 1)
    if (end < text.length && last >= 0xd800 && last <= 0xdbff) end++
    deltas.push(text.slice(at, end))
    at = end
  }
  return deltas
}

/** The text blocks of the newest user message, without the reminders that the CLI puts around the prompt. */
export function promptText(request: MessagesRequest): string {
  const last = request.messages.findLast((message) => message.role === 'user')
  if (!last) return ''
  if (typeof last.content === 'string') return last.content
  return last.content
    .flatMap((block) =>
      block.type === 'text' && block.text !== undefined && !block.text.startsWith('<system-reminder>') ? [block.text] : [],
    )
    .join('\n')
}

/** Reads a body up to `maxBytes`; undefined when it is longer. */
export async function readBody(request: IncomingMessage, maxBytes: number): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > maxBytes) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}

/** Resolves when the socket takes more, or has closed. */
export async function write(response: ServerResponse, bytes: string | Uint8Array): Promise<void> {
  if (response.destroyed || response.write(bytes)) return
  await new Promise<void>((resolve) => {
    const done = (): void => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
  })
}

/** Listens on a free port of 127.0.0.1. `close` cuts open connections, also those in mid-answer. */
export async function listen(server: Server): Promise<{ url: string; close: () => Promise<void> }> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server has no port')
  return {
    url: `http://127.0.0.1:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
