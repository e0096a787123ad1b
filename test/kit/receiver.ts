/** Somebody who is told by webhook: a server on loopback that keeps what it hears and answers what the test says. */
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import type { Json } from './fleet.ts'

export interface Heard {
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly id: string
  readonly body: Json
}

/** A status, with headers if need be; or no answer at all. */
export type Reply = number | { readonly status: number; readonly headers: Record<string, string> } | 'silence'

export interface Receiver {
  /** With a slash at its end. */
  readonly url: string
  readonly heard: readonly Heard[]
  at(path: string): Heard[]
  /** What it says from now on, by path. */
  replies: (path: string, nth: number) => Reply
  close(): Promise<void>
}

export async function openReceiver(replies: Receiver['replies'] = () => 204): Promise<Receiver> {
  const heard: Heard[] = []
  const server = createServer((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const text = Buffer.concat(parts).toString()
      const path = request.url ?? ''
      heard.push({ path, headers: request.headers, text, id: String(request.headers['webhook-id']), body: JSON.parse(text) as Json })
      const reply = receiver.replies(path, receiver.at(path).length)
      if (reply === 'silence') return
      const { status, headers } = typeof reply === 'number' ? { status: reply, headers: {} } : reply
      response.writeHead(status, headers).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const receiver: Receiver = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    heard,
    at: (path) => heard.filter((one) => one.path === path),
    replies,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
  return receiver
}

/** Throws unless it is signed with this secret, and was signed within the last minutes. */
export function verified({ text, headers }: Heard, secret: string): Json {
  return new Webhook(secret).verify(text, headers as Record<string, string>) as Json
}
