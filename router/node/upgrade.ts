/**
 * Requests that ask for another protocol. Whether one becomes a WebSocket is for the app to say, which sees it like any
 * other request and takes the socket over with `accepted`; whoever is not taken over hears why.
 *
 * Not the adapter's own way, which keeps request, response and context of each upgrade for as long as its socket lives,
 * 11 KB of them, and makes an event of every message.
 */
import { STATUS_CODES, type IncomingMessage, type Server } from 'node:http'
import type { Socket } from 'node:net'
import type { WebSocket, WebSocketServer } from 'ws'

/** What an upgrade brings into the app in place of an outgoing response. */
export interface UpgradeEnv {
  readonly incoming: IncomingMessage
  readonly outgoing: undefined
  /** Set by whoever takes the socket over: called when the handshake is done. */
  accepted?: (ws: WebSocket) => void
}

/** What the app said; `accepted` as it was set. */
type Answer = { readonly response: Response; readonly accepted?: (ws: WebSocket) => void }

export type FetchUpgrade = (request: Request, env: UpgradeEnv) => Response | Promise<Response>

/**
 * With this in place Node hands over every request that has an `Upgrade` header: unanswered, `curl --http2` would hang.
 * `failed` hears what could not be answered at all; its connection is gone by then.
 */
export function answerUpgrades(server: Server, sockets: WebSocketServer, fetch: FetchUpgrade, failed: (error: unknown) => void): void {
  server.on('upgrade', (incoming: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', ignore)
    const answered = answerOf(fetch, incoming).then(({ response, accepted }) => {
      if (!accepted) return refuse(socket, response)
      return socket.destroyed ? undefined : handshake(sockets, incoming, head, response, accepted)
    })
    answered.catch((error: unknown) => {
      socket.destroy()
      failed(error)
    })
  })
  server.on('close', () => sockets.close())
}

async function answerOf(fetch: FetchUpgrade, incoming: IncomingMessage): Promise<Answer> {
  if (incoming.headers.upgrade?.toLowerCase() !== 'websocket') return { response: noSuchProtocol() }
  // A handshake is a GET (RFC 6455 §4.1), and as such the app would see whatever it is.
  if (incoming.method !== 'GET') return { response: new Response(null, { status: 405, headers: { allow: 'GET' } }) }
  return ask(fetch, incoming)
}

async function ask(fetch: FetchUpgrade, incoming: IncomingMessage): Promise<Answer> {
  const env: UpgradeEnv = { incoming, outgoing: undefined }
  try {
    const response = await fetch(requestOf(incoming), env)
    if (env.accepted) return { response, accepted: env.accepted }
    if (!response.ok) return { response }
    // It was asked for something else, and may be answered without end.
    await response.body?.cancel()
    return { response: noSuchProtocol() }
  } catch {
    // The app answers for its own errors: this one is of a request that has no URL.
    return { response: new Response(null, { status: 400 }) }
  }
}

/** In the target in absolute form there is a host already. Whether it is ours the app says. */
function requestOf({ url = '/', headers: given }: IncomingMessage): Request {
  const headers = new Headers()
  for (const [name, value] of Object.entries(given)) if (typeof value === 'string') headers.set(name, value)
  return new Request(/^https?:\/\//.test(url) ? url : new URL(url.replace(/^\/*/, '/'), `http://${given.host ?? 'localhost'}`), { headers })
}

function handshake(sockets: WebSocketServer, incoming: IncomingMessage, head: Buffer, { headers }: Response, accepted: (ws: WebSocket) => void): void {
  const addHeaders = (lines: string[]) => lines.push(...[...headers].map(([name, value]) => `${name}: ${value}`))
  sockets.on('headers', addHeaders)
  incoming.socket.off('error', ignore)
  try {
    // At once, or not at all.
    sockets.handleUpgrade(incoming, incoming.socket, head, accepted)
  } finally {
    // Or every handshake from here on would have them too.
    sockets.off('headers', addHeaders)
  }
}

function noSuchProtocol(): Response {
  const body = { type: 'about:blank', title: 'no such protocol', status: 426, detail: 'this path upgrades to nothing; leave the Upgrade header out', code: 'version' }
  const headers = { 'content-type': 'application/problem+json', upgrade: 'websocket' }
  return new Response(JSON.stringify(body), { status: 426, headers })
}

async function refuse(socket: Socket, response: Response): Promise<void> {
  const body = Buffer.from(await response.arrayBuffer())
  const headers = new Headers(response.headers)
  headers.set('connection', 'close')
  headers.set('content-length', String(body.length))
  const status = `HTTP/1.1 ${response.status} ${STATUS_CODES[response.status] ?? ''}`
  const head = [status, ...[...headers].map(([name, value]) => `${name}: ${value}`), '', ''].join('\r\n')
  await new Promise<void>((resolve) => socket.end(Buffer.concat([Buffer.from(head), body]), resolve))
  socket.destroySoon()
}

const ignore = (): void => undefined
