/** The part of the API that the load client uses, for a floor: post a run and read it, cancel it. Nothing is checked. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Runs {
  /** The answer's headers are sent by whoever has the first bytes, or earlier. */
  start(id: number, prompt: string, response: ServerResponse): void
  cancel(id: number): void
}

export const STREAM_HEADERS = { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache, no-transform' }

export async function listen(runs: Runs): Promise<{ port: number; server: ReturnType<typeof createServer> }> {
  let last = 0
  const server = createServer({ noDelay: true }, (request, response) => {
    const cancelled = /^\/v1\/runs\/(\d+)\/cancel$/.exec(request.url ?? '')
    if (cancelled) {
      request.resume()
      runs.cancel(Number(cancelled[1]))
      return void response.end('{}')
    }
    void body(request).then((text) => {
      const id = ++last
      response.writeHead(200, { ...STREAM_HEADERS, 'x-run-id': String(id) })
      response.flushHeaders()
      runs.start(id, (JSON.parse(text) as { prompt: string }).prompt, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { port: (server.address() as AddressInfo).port, server }
}

async function body(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  return Buffer.concat(pieces).toString()
}
