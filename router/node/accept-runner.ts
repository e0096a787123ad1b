/** The WebSocket of a runner on Node: what is under its inbox, and the answer to its pings, which is most of what there is to do. */
import type { Context } from 'hono'
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import { CLOSE } from '../../shared/frames.ts'
import { Fault } from '../../shared/faults.ts'
import { RUNNER_TOKEN_TTL_S } from '../../shared/runner-auth.ts'
import { refreshToken } from '../guard/assertion.ts'
import { Inbox, type Wire } from '../hub/inbox.ts'
import type { Seat } from '../hub/seat.ts'
import type { Deps, Log } from '../ports.ts'
import type { UpgradeEnv } from './upgrade.ts'

/** A peer that does not answer the close would keep the socket for 30 s. */
const CLOSE_MS = 1_000
const PING = Buffer.from('ping')
/** `pong` in the frame of a server (RFC 6455 §5.2): one write, where `ws` makes the head anew and writes it by itself. */
const PONG = Buffer.from('\x81\x04pong', 'latin1')

export function acceptRunner(deps: () => Deps) {
  return (c: Context, seat: () => Seat): Promise<Response> => {
    const env = c.env as UpgradeEnv | { readonly outgoing: object }
    // An `Upgrade` that `Connection` does not name is none (RFC 9110 §7.8): this came as an ordinary request.
    if (env.outgoing) return Promise.reject(new Fault('version', 'the Connection header does not ask for the upgrade'))
    // Whatever is held of the request is held for as long as the runner is connected.
    const url = new URL(c.req.url).origin
    const { socket } = env.incoming
    env.accepted = (ws) => {
      const refresh = (assertion: string) => refreshToken(deps(), assertion, seat().who.runner, url)
      const { log } = deps()
      listenTo(ws, socket, new Inbox({ seat, refresh, log, now: monotonicMs }), log)
    }
    return Promise.resolve(new Response())
  }
}

function listenTo(ws: WebSocket, socket: Socket, inbox: Inbox, log: Log): void {
  ws.binaryType = 'arraybuffer'
  ws.on('message', (data, isBinary) => {
    try {
      // Text comes in a Buffer, whatever is said of binary messages.
      if (isBinary) inbox.push(data as ArrayBuffer)
      else if (!PING.equals(data as Buffer)) inbox.push((data as Buffer).toString())
      // Nothing may follow a close.
      else if (inbox.heard() && ws.readyState === ws.OPEN) socket.write(PONG)
    } catch (error) {
      // What one runner says must not end the process for all.
      log.error({ err: error }, 'a message of a runner could not be handled')
      inbox.close(CLOSE.overload, 'try again')
      inbox.closed()
    }
  })
  ws.on('close', () => inbox.closed())
  // A close follows.
  ws.on('error', ignore)
  inbox.open(new SocketWire(ws), RUNNER_TOKEN_TTL_S * 1_000)
}

class SocketWire implements Wire {
  readonly #ws: WebSocket

  constructor(ws: WebSocket) {
    this.#ws = ws
  }

  send(data: string): void {
    this.#ws.send(data)
  }

  close(code: number, reason: string): void {
    this.#ws.close(code, reason)
    setTimeout(() => this.#ws.terminate(), CLOSE_MS).unref()
  }
}

const ignore = () => undefined
const monotonicMs = () => performance.now()
