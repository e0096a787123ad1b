/** The WebSocket of a runner on Node: what is under its inbox. */
import { upgradeWebSocket } from '@hono/node-server'
import type { Context } from 'hono'
import type { WSContext } from 'hono/ws'
import { RUNNER_TOKEN_TTL_S } from '../../shared/runner-auth.ts'
import { refreshToken } from '../guard/assertion.ts'
import { Inbox, type Wire } from '../hub/inbox.ts'
import type { Seat } from '../hub/seat.ts'
import type { Deps } from '../ports.ts'

/** A peer that does not answer the close would keep the socket for 30 s. */
const CLOSE_MS = 1_000

export function acceptRunner(deps: () => Deps) {
  return async (c: Context, seat: () => Seat): Promise<Response> => {
    const refresh = (assertion: string) => refreshToken(deps(), assertion, seat().who.runner, c.req.url)
    const inbox = new Inbox({ seat, refresh, log: deps().log, now: () => performance.now() })
    const response = await upgradeWebSocket(() => ({
      onOpen: (_event, ws) => inbox.open(wire(ws), RUNNER_TOKEN_TTL_S * 1_000),
      onMessage: (event) => inbox.push(event.data as string | ArrayBuffer),
      onClose: () => inbox.closed(),
    }))(c, () => Promise.resolve())
    return response as Response
  }
}

function wire(ws: WSContext): Wire {
  return {
    send: (data) => ws.send(data),
    close(code, reason) {
      ws.close(code, reason)
      const raw = ws.raw as { terminate?: () => void } | undefined
      setTimeout(() => raw?.terminate?.(), CLOSE_MS).unref()
    },
  }
}
