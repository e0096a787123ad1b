/**
 * A scripted Anthropic Messages API on a real loopback socket: a test says what the model answers and reads what was sent.
 *
 * The script is asked for main turns only, in order of arrival and counted from 1. Everything else the CLI sends is
 * answered here and recorded with its `kind`. What CLI 2.1.197 sends for one prompt (recorded by a run under `-p` with
 * stream-json on both sides, API key in the environment):
 *
 * - `HEAD /` once per process, to open the connection early: `head`.
 * - `POST /v1/messages?beta=true`, `stream: true`, to the model of the run: `main`. The prompt is the last text block of
 *   the last user message; the blocks before it are `<system-reminder>`s. Further calls of the turn carry tool results.
 * - Before it, for the first prompt of a process, a call for a session title to the *same* model: no tools, thinking
 *   off, and the only one with `output_config.format`: `side`. It is not sent under
 *   `CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1`. (`--json-schema` does not use `output_config.format` but a tool.)
 * - Subagents and the fallback after a broken stream (`stream: false`) look like a main turn, and are one here.
 *
 * Every POST has `x-claude-code-session-id`; `metadata.user_id` is JSON with the same `session_id`.
 */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http'
import { errorBody, listen, MessagesRequest, promptText, readBody, sendJson } from '../../runner/demo/messages-sse.ts'
import { text, type Reply } from './replies.ts'

export * from './replies.ts'

export type RequestKind = 'head' | 'main' | 'side' | 'count' | 'unknown'
export type ModelRequest = {
  kind: RequestKind
  method: string
  /** Path with query, as it was sent. */
  path: string
  headers: IncomingHttpHeaders
  /** The body as it was sent. */
  raw: string
  /** The parsed body of a `/v1/messages` call. */
  body: MessagesRequest | undefined
  /** The text of the newest user message without reminders; '' where there is none. */
  prompt: string
}
/** `n` counts main turns from 1. */
export type Script = (request: ModelRequest, n: number) => Reply | Promise<Reply>

export type Model = {
  url: string
  /** Every request so far, of every kind. */
  requests: readonly ModelRequest[]
  /** The requests that the script was asked for. */
  main: () => ModelRequest[]
  /** Replaces the script for requests yet to come. */
  script: (script: Script) => void
  /** The first request, past or to come, that the predicate takes; rejects after `timeoutMs` (20 s). */
  waitFor: (predicate: (request: ModelRequest) => boolean, timeoutMs?: number) => Promise<ModelRequest>
  /** Cuts every connection, also those of `hang` and `stall`. */
  close: () => Promise<void>
}

const MAX_BODY_BYTES = 64 * 1024 * 1024

/** Starts the model on a free port of 127.0.0.1. Without a script every main turn is answered with `ok`. */
export async function startModel(script: Script = () => text('ok')): Promise<Model> {
  const requests: ModelRequest[] = []
  const waiting = new Set<(request: ModelRequest) => void>()
  let current = script
  let turns = 0

  async function answer(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = describe(incoming, (await readBody(incoming, MAX_BODY_BYTES)) ?? '')
    requests.push(request)
    for (const wake of waiting) wake(request)
    if (request.kind === 'head') response.writeHead(200).end()
    else if (request.kind === 'count') sendJson(response, 200, { input_tokens: 10 })
    else if (request.kind === 'side') await text('{"title":"Scripted"}')({ request, response })
    else if (request.kind === 'main') await (await current(request, ++turns))({ request, response })
    else sendJson(response, 404, errorBody('not_found_error', `${request.method} ${request.path} is not scripted`))
  }

  const server = createServer((incoming, response) => {
    incoming.socket.setNoDelay(true)
    answer(incoming, response).catch((error: unknown) => {
      // A client that hung up is a matter of the test; a script that throws must be seen by it.
      if (response.headersSent || response.destroyed) response.destroy()
      else sendJson(response, 500, errorBody('api_error', `the script failed: ${String(error)}`), { 'x-should-retry': 'false' })
    })
  })
  const { url, close } = await listen(server)

  return {
    url,
    close,
    requests,
    main: () => requests.filter((request) => request.kind === 'main'),
    script: (next) => {
      current = next
    },
    waitFor: (predicate, timeoutMs = 20_000) =>
      new Promise((resolve, reject) => {
        const seen = requests.find(predicate)
        if (seen) return resolve(seen)
        const stop = (): void => {
          clearTimeout(timer)
          waiting.delete(wake)
        }
        const wake = (request: ModelRequest): void => {
          if (!predicate(request)) return
          stop()
          resolve(request)
        }
        const timer = setTimeout(() => {
          stop()
          const seenSoFar = requests.map((request) => `${request.method} ${request.path}`).join(', ')
          reject(new Error(`no such request within ${timeoutMs} ms; seen: ${seenSoFar || 'none'}`))
        }, timeoutMs)
        waiting.add(wake)
      }),
  }
}

function describe(incoming: IncomingMessage, raw: string): ModelRequest {
  const { method = '', url: path = '', headers } = incoming
  const body = parse(raw)
  return { kind: kindOf(method, path, body), method, path, headers, raw, body, prompt: body ? promptText(body) : '' }
}

function parse(raw: string): MessagesRequest | undefined {
  try {
    return MessagesRequest.parse(JSON.parse(raw))
  } catch {
    return undefined
  }
}

function kindOf(method: string, path: string, body: MessagesRequest | undefined): RequestKind {
  const route = path.split('?')[0]
  if (method === 'HEAD' && route === '/') return 'head'
  if (method !== 'POST') return 'unknown'
  if (route === '/v1/messages/count_tokens') return 'count'
  if (route !== '/v1/messages' || !body) return 'unknown'
  const output = body.output_config
  return typeof output === 'object' && output !== null && 'format' in output ? 'side' : 'main'
}
