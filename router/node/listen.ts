/**
 * The port: HTTP and the runners' WebSockets, and the way to stop listening in bounded time whatever the other end does.
 */
import { createAdaptorServer } from '@hono/node-server'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocketServer } from 'ws'
import { ROUTER_MAX_PAYLOAD } from '../../shared/limits.ts'
import { SUBPROTOCOL } from '../../shared/version.ts'
import { sourceOf } from '../engine/body-source.ts'
import { sendStream } from './send-stream.ts'
import { answerUpgrades } from './upgrade.ts'

/** Streams are ended by their owner at once, so this only bounds peers that do not read or do not close. */
const CLOSE_MS = 2_000

type Fetch = (request: Request, env: { incoming: IncomingMessage; outgoing: unknown }) => Response | Promise<Response>

export interface Listening {
  readonly address: AddressInfo
  /** No new connections; resolves when every old one is gone. */
  close(): Promise<void>
}

/** `failed` hears why an upgrade could not be answered. */
export async function listen(fetch: Fetch, port: number, host: string, failed: (error: unknown) => void): Promise<Listening> {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: ROUTER_MAX_PAYLOAD,
    perMessageDeflate: false,
    // Nobody asks for the list, and each of thousands would pay for it.
    clientTracking: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  })
  const server = createAdaptorServer({
    fetch: async (request, env) => {
      const response = await fetch(request, env as Parameters<Fetch>[1])
      // To look at the body of any other would make the adapter build a whole Response for it.
      const source = response.headers.get('content-type')?.startsWith('text/event-stream') ? sourceOf(response.body) : undefined
      return source ? sendStream(source, response, env.outgoing as ServerResponse) : response
    },
  }) as Server
  answerUpgrades(server, sockets, fetch, failed)
  const open = new Set<Socket>()
  /** One for all of them: a closure for each is 250 bytes of a runner that does nothing. */
  function forget(this: Socket): void {
    open.delete(this)
  }
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.on('close', forget)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
  return {
    address: server.address() as AddressInfo,
    close: () =>
      new Promise((resolve) => {
        // Upgraded sockets are none of the HTTP server's any more, so it would wait for them without end.
        const force = setTimeout(() => open.forEach((socket) => socket.destroy()), CLOSE_MS)
        // A connection whose answer is under way becomes idle a moment later.
        const idle = setInterval(() => server.closeIdleConnections(), 20)
        server.close(() => {
          clearTimeout(force)
          clearInterval(idle)
          resolve()
        })
      }),
  }
}
