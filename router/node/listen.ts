/**
 * The port: HTTP and the runners' WebSockets, and the way to stop listening in bounded time whatever the other end does.
 */
import { createAdaptorServer } from '@hono/node-server'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocketServer } from 'ws'
import { ROUTER_MAX_PAYLOAD } from '../../shared/limits.ts'
import { SUBPROTOCOL } from '../../shared/version.ts'
import { sendStream } from './send-stream.ts'

/** Streams are ended by their owner at once, so this only bounds peers that do not read or do not close. */
const CLOSE_MS = 2_000

type Fetch = (request: Request, env: { incoming: IncomingMessage; outgoing: unknown }) => Response | Promise<Response>

export interface Listening {
  readonly address: AddressInfo
  /** No new connections; resolves when every old one is gone. */
  close(): Promise<void>
}

export async function listen(fetch: Fetch, port: number, host: string): Promise<Listening> {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: ROUTER_MAX_PAYLOAD,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  })
  const server = createAdaptorServer({
    fetch: async (request, env) => {
      const response = await fetch(request, env as Parameters<Fetch>[1])
      // An upgrade has no response object; the adapter would send the status of a refusal and leave its reason out.
      if (env.outgoing === undefined && !response.ok) await refuseUpgrade(env.incoming.socket, response)
      const streams = response.headers.get('content-type')?.startsWith('text/event-stream')
      return streams && env.outgoing !== undefined ? sendStream(response, env.outgoing as ServerResponse) : response
    },
    websocket: { server: sockets },
  }) as Server
  answerOtherUpgrades(server)
  const open = new Set<Socket>()
  server.on('connection', (socket) => {
    open.add(socket)
    socket.once('close', () => open.delete(socket))
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

/**
 * With an upgrade listener in place Node hands over every request that has an `Upgrade` header, and the adapter looks at
 * WebSockets only: `curl --http2` would hang.
 */
function answerOtherUpgrades(server: Server): void {
  const [websockets] = server.listeners('upgrade') as ((...args: unknown[]) => void)[]
  server.removeAllListeners('upgrade')
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (request.headers.upgrade?.toLowerCase() === 'websocket') return websockets?.call(server, request, socket, head)
    socket.on('error', () => undefined)
    const body = { type: 'about:blank', title: 'no such protocol', status: 426, detail: 'this server upgrades to WebSocket only; leave the Upgrade header out', code: 'version' }
    const headers = { 'content-type': 'application/problem+json', upgrade: 'websocket' }
    void refuseUpgrade(socket, new Response(JSON.stringify(body), { status: 426, statusText: 'Upgrade Required', headers }))
  })
}

async function refuseUpgrade(socket: Socket, response: Response): Promise<void> {
  const body = Buffer.from(await response.clone().arrayBuffer())
  const headers = new Headers(response.headers)
  headers.set('connection', 'close')
  headers.set('content-length', String(body.length))
  const head = [`HTTP/1.1 ${response.status} ${response.statusText || 'Refused'}`, ...[...headers].map(([name, value]) => `${name}: ${value}`), '', ''].join('\r\n')
  await new Promise<void>((resolve) => socket.end(Buffer.concat([Buffer.from(head), body]), resolve))
  socket.destroySoon()
}
