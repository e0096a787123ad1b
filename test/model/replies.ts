/** What the scripted model can answer. A reply writes one HTTP response and decides how its bytes meet the socket. */
import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import {
  answerBody,
  answerFrames,
  cutDeltas,
  errorBody,
  frame,
  sendJson,
  write,
  type Answer,
  type Block,
  type Usage,
} from '../../runner/demo/messages-sse.ts'
import type { ModelRequest } from './scripted.ts'

export type Exchange = { request: ModelRequest; response: ServerResponse }
export type Reply = (exchange: Exchange) => Promise<void>

export type Pace = {
  /** How many deltas a text is cut into, or the deltas themselves. Default: one per 16 Ki characters. */
  chunks?: number | readonly string[]
  /** Between two frames. */
  delayMs?: number
  /** Ends one TCP write inside every multi-byte character, so that a reader that decodes chunk by chunk breaks it. */
  cutUtf8?: boolean
  usage?: Partial<Usage>
  stopReason?: string
}

const DELTA_CHARS = 16 * 1024

/** A whole text answer, streamed or as JSON, as the request asks. */
export function text(content: string, pace: Pace = {}): Reply {
  return blocks([textBlock(content, pace.chunks)], pace)
}

/** One tool call; the CLI runs the tool and calls again with its result. */
export function toolUse(name: string, input: Record<string, unknown>, pace: Pace = {}): Reply {
  return blocks([toolBlock(name, input)], pace)
}

export function textBlock(content: string, chunks: Pace['chunks'] = Math.ceil(content.length / DELTA_CHARS)): Block {
  return { type: 'text', deltas: typeof chunks === 'number' ? cutDeltas(content, chunks) : chunks }
}

export function toolBlock(name: string, input: Record<string, unknown>): Block {
  return { type: 'tool_use', id: `toolu_${randomUUID().replaceAll('-', '')}`, name, input }
}

/** Several blocks in one answer, such as text before a tool call or tool calls in parallel. */
export function blocks(content: readonly Block[], pace: Pace = {}): Reply {
  return async ({ request, response }) => {
    const answer = answerTo(request, content, pace)
    if (request.body?.stream !== true) return sendJson(response, 200, answerBody(answer))
    startStream(response)
    for (const line of answerFrames(answer)) {
      if (response.destroyed) return
      await (pace.cutUtf8 ? writeCut(response, line) : write(response, line))
      if (pace.delayMs !== undefined) await sleep(pace.delayMs)
    }
    response.end()
  }
}

/** An API error, such as `error(529, 'overloaded_error', 'Overloaded')`. */
export function error(status: number, type: string, message: string, headers: Record<string, string> = {}): Reply {
  return async ({ response }) => sendJson(response, status, errorBody(type, message), headers)
}

/** Never answers, not even with headers. */
export function hang(): Reply {
  return ({ response }) => closed(response)
}

/** Begins to stream `content` and then stays silent. */
export function stall(content = 'so far'): Reply {
  return async ({ request, response }) => {
    startStream(response)
    for (const line of answerFrames(answerTo(request, [textBlock(content)], {}))) {
      if (line.startsWith('event: content_block_stop')) break
      await write(response, line)
    }
    await closed(response)
  }
}

/** Begins to stream `content` and then sends an `error` event, as the API does when it is overloaded in mid-answer. */
export function breakOff(type: string, message: string, content = 'so far'): Reply {
  return async ({ request, response }) => {
    startStream(response)
    for (const line of answerFrames(answerTo(request, [textBlock(content)], {}))) {
      if (line.startsWith('event: content_block_stop')) break
      await write(response, line)
    }
    response.end(frame('error', { error: { type, message } }))
  }
}

/** Resets the connection without an answer. */
export function drop(): Reply {
  return async ({ response }) => {
    response.socket?.resetAndDestroy()
  }
}

/** A body as it is, under status 200 and the content type of a stream. */
export function bytes(raw: string | Uint8Array): Reply {
  return async ({ response }) => {
    startStream(response)
    response.end(raw)
  }
}

function answerTo(request: ModelRequest, content: readonly Block[], pace: Pace): Answer {
  const id = `msg_${randomUUID().replaceAll('-', '')}`
  const usage = { input_tokens: 12, output_tokens: 34, ...pace.usage }
  return {
    id,
    model: request.body?.model ?? '',
    blocks: content,
    usage,
    ...(pace.stopReason ? { stopReason: pace.stopReason } : {}),
  }
}

function startStream(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'request-id': `req_${randomUUID()}` })
}

async function writeCut(response: ServerResponse, line: string): Promise<void> {
  const all = Buffer.from(line)
  let from = 0
  for (let at = 0; at < all.length; at++) {
    // A lead byte (11xxxxxx): the next byte belongs to the same character.
    if ((all[at] ?? 0) < 0xc0) continue
    await write(response, all.subarray(from, at + 1))
    from = at + 1
    // Lets the first half leave on its own; in one tick both would go out in one packet.
    await setImmediate()
  }
  await write(response, all.subarray(from))
}

async function closed(response: ServerResponse): Promise<void> {
  if (response.destroyed) return
  await new Promise<void>((resolve) => {
    response.once('close', () => resolve())
  })
}
