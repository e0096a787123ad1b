/** The WebSocket of a runner on Node: what is under its inbox. */
import type { Context } from 'hono'
import type { WebSocket } from 'ws'
import { CLOSE } from '../../shared/frames.ts'
import { RUNNER_TOKEN_TTL_S } from '../../shared/runner-auth.ts'
import { refreshToken } from '../guard/assertion.ts'
import { Inbox, type Wire } from '../hub/inbox.ts'
import type { Seat } from '../hub/seat.ts'
import type { Deps } from '../ports.ts'
import type { UpgradeEnv } from './upgrade.ts'

/** A peer that does not answer the close would keep the socket for 30 s. */
const CLOSE_MS = 1_000

export function acceptRunner(deps: () => Deps) {
  return (c: Context, seat: () => Seat): Promise<Response> => {
    // The URL alone: whatever is held of the request is held for as long as the runner is connected.
    const { url } = c.req
    const env = c.env as UpgradeEnv
    env.accepted = (ws) => {
      const refresh = (assertion: string) => refreshToken(deps(), assertion, seat().who.runner, url)
      listenTo(ws, new Inbox({ seat, refresh, log: deps().log, now: () => performance.now() }), deps)
    }
    return Promise.resolve(new Response())
  }
}

function listenTo(ws: WebSocket, inbox: Inbox, deps: () => Deps): void {
  ws.binaryType = 'arraybuffer'
  ws.on('message', (data, isBinary) => {
    try {
      // Text comes in a Buffer whatever is said of binary messages.
      inbox.push(isBinary ? (data as ArrayBuffer) : (data as Buffer).toString())
    } catch (error) {
      // What one runner says must not end the process for all.
      deps().log.error({ err: error }, 'a message of a runner could not be handled')
      inbox.close(CLOSE.overload, 'try again')
      inbox.closed()
    }
  })
  ws.on('close', () => inbox.closed())
  // A close follows.
  ws.on('error', () => undefined)
  inbox.open(wire(ws), RUNNER_TOKEN_TTL_S * 1_000)
}

function wire(ws: WebSocket): Wire {
  return {
    send: (data) => ws.send(data),
    close(code, reason) {
      ws.close(code, reason)
      setTimeout(() => ws.terminate(), CLOSE_MS).unref()
    },
  }
}
