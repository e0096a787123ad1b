/** A model that answers at once, always the same, and for a price: what a turn costs is then the same for every turn. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { answerBody, answerFrames, listen, MessagesRequest, readBody, sendJson, type Answer } from '../runner/demo/messages-sse.ts'
import type { Model } from './real-cli.ts'

const MAX_BODY_BYTES = 32 * 1024 * 1024
const USAGE = { input_tokens: 1_000, output_tokens: 100 }

export async function openPricedModel(): Promise<Model> {
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy())
  })
  const { url, close } = await listen(server)
  return { env: { ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: 'sk-bench-not-a-key' }, close }
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  // The CLI opens its connection with a bare HEAD.
  if (request.method !== 'POST') return void response.end()
  const parsed = MessagesRequest.parse(JSON.parse((await readBody(request, MAX_BODY_BYTES)) ?? ''))
  const reply: Answer = { id: `msg_bench_${parsed.messages.length}`, model: parsed.model, blocks: [{ type: 'text', deltas: ['Hello.'] }], usage: USAGE }
  if (parsed.stream !== true) return sendJson(response, 200, answerBody(reply))
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.end([...answerFrames(reply)].join(''))
}
