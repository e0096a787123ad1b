/**
 * The demo model: a small scripted Messages API on loopback, so that a first run works without an account.
 *
 * It is no language model and says so in every answer. It repeats the first line of the prompt, and when the prompt asks
 * to write a file it calls the Write tool once. When it is used, and that a run says `demo`, is decided by the caller.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  answerBody,
  answerFrames,
  cutDeltas,
  errorBody,
  listen,
  MessagesRequest,
  promptText,
  readBody,
  sendJson,
  write,
  type Answer,
  type Block,
} from './messages-sse.ts'

/** The history of a long session with some room; the CLI's own cap on a request is 32 MB. */
const MAX_BODY_BYTES = 32 * 1024 * 1024
const DELTA_DELAY_MS = 25
const DELTA_CHARS = 24
const ECHO_CHARS = 200
/** How far into a prompt a file name is looked for. */
const SCANNED_CHARS = 2_000

/** Starts the demo model on a free port of 127.0.0.1. It answers only calls that carry `token` as `x-api-key`. */
export async function startDemoModel(): Promise<{ url: string; token: string; close: () => Promise<void> }> {
  const token = `demo-${randomBytes(24).toString('base64url')}`
  const server = createServer((request, response) => {
    answer(request, response, token).catch(() => response.destroy())
  })
  const { url, close } = await listen(server)
  return { url, token, close }
}

async function answer(request: IncomingMessage, response: ServerResponse, token: string): Promise<void> {
  const route = request.url?.split('?')[0] ?? ''
  // The CLI opens its connection with a bare HEAD / before it has anything to authenticate.
  if (request.method === 'HEAD' && route === '/') {
    response.writeHead(200).end()
    return
  }
  if (!isToken(request.headers['x-api-key'], token))
    return sendJson(response, 401, errorBody('authentication_error', 'invalid x-api-key'))
  if (request.method !== 'POST') return sendJson(response, 404, errorBody('not_found_error', 'no such route'))
  const body = await readBody(request, MAX_BODY_BYTES)
  if (body === undefined)
    return sendJson(response, 413, errorBody('request_too_large', 'the request is too large'), { connection: 'close' })
  if (route === '/v1/messages/count_tokens') return sendJson(response, 200, { input_tokens: tokens(body) })
  if (route !== '/v1/messages') return sendJson(response, 404, errorBody('not_found_error', 'no such route'))
  const parsed = parse(body)
  if (!parsed) return sendJson(response, 400, errorBody('invalid_request_error', 'the body is not a Messages request'))
  const reply = replyTo(parsed)
  if (parsed.stream !== true) return sendJson(response, 200, answerBody(reply))
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const line of answerFrames(reply)) {
    await write(response, line)
    if (response.destroyed) return
    if (line.startsWith('event: content_block_delta')) await sleep(DELTA_DELAY_MS)
  }
  response.end()
}

function isToken(given: string | string[] | undefined, token: string): boolean {
  if (typeof given !== 'string') return false
  const [a, b] = [Buffer.from(given), Buffer.from(token)]
  return a.length === b.length && timingSafeEqual(a, b)
}

function parse(body: string): MessagesRequest | undefined {
  try {
    return MessagesRequest.parse(JSON.parse(body))
  } catch {
    return undefined
  }
}

/** Four characters to a token, the usual rule of thumb. */
const tokens = (text: string): number => Math.ceil(text.length / 4)

/** What the demo model says to a request. Ids are made from the place in the conversation. */
function replyTo(request: MessagesRequest): Answer {
  return {
    id: `msg_demo_${request.messages.length}`,
    model: request.model,
    blocks: replyBlocks(request),
    // The CLI makes a price of these, and nobody pays for the demo.
    usage: { input_tokens: 0, output_tokens: 0 },
  }
}

function replyBlocks(request: MessagesRequest): Block[] {
  // The CLI asks for a title of the session on its own; it wants JSON.
  if (typeof request.output_config === 'object' && request.output_config !== null && 'format' in request.output_config) {
    return [say('{"title":"Runyard demo"}')]
  }
  const toolResult = lastToolResult(request)
  if (toolResult !== undefined)
    return [say(`${WHO} ${toolResult.isError ? 'The Write tool refused:' : 'The Write tool answered:'} ${toolResult.text}`)]
  const prompt = promptText(request)
  const file = fileToWrite(prompt)
  if (file !== undefined && request.tools?.some((tool) => tool.name === 'Write')) {
    const content = `Written by the Runyard demo model.\nPrompt: ${firstLine(prompt)}\n`
    const id = `toolu_demo_${request.messages.length}`
    return [
      say(`${WHO} You asked for a file, so I call the Write tool.`),
      { type: 'tool_use', id, name: 'Write', input: { file_path: file, content } },
    ]
  }
  return [
    say(`${WHO} You wrote: ${firstLine(prompt)}\nSet ANTHROPIC_API_KEY or log in with the claude command to get real answers.`),
  ]
}

const WHO = 'This is the Runyard demo model, not Claude: a script that needs no account.'

function say(text: string): Block {
  return { type: 'text', deltas: cutDeltas(text, Math.ceil(text.length / DELTA_CHARS)) }
}

function firstLine(prompt: string): string {
  const line = prompt.trim().split('\n', 1)[0] ?? ''
  return line.length > ECHO_CHARS ? `${line.slice(0, ECHO_CHARS)}…` : line
}

/** `write hello.txt`, `Create a file called notes/a.md`: a relative name with an extension, near a verb of writing. */
function fileToWrite(prompt: string): string | undefined {
  const match =
    /\b(?:write|create|make|save)\b[^\n]{0,80}?(?<![\w./~-])([\w-][\w.-]*(?:\/[\w-][\w.-]*)*\.[A-Za-z0-9]{1,8})\b/i.exec(
      prompt.slice(0, SCANNED_CHARS),
    )
  return match?.[1]
}

function lastToolResult(request: MessagesRequest): { text: string; isError: boolean } | undefined {
  const content = request.messages.at(-1)?.content
  if (content === undefined || typeof content === 'string') return undefined
  const block = content.find((one) => one.type === 'tool_result')
  if (!block) return undefined
  return { text: typeof block.content === 'string' ? firstLine(block.content) : 'done', isError: block.is_error === true }
}
