/**
 * The sockets of one runner's object, which outlive its memory: each with its inbox, and where that stood when the object
 * last forgot it. Only the newest counts.
 */
import { CLOSE } from '../../shared/frames.ts'
import { RUNNER_TOKEN_TTL_S } from '../../shared/runner-auth.ts'
import { refreshToken } from '../guard/assertion.ts'
import { Inbox, type Standing, type Wire } from '../hub/inbox.ts'
import type { Seat } from '../hub/seat.ts'
import { settingsOf, type Env } from './env.ts'
import { log } from './log.ts'
import { identityFor, platform } from './platform.ts'
import { sharedStore } from './shared-store.ts'

/** At most 16 KiB. `url`: the address that was dialled, without what a stranger could make long. */
type Attachment = Standing & { readonly url: string }

const SUPERSEDED = 'a newer connection took over'

export class RunnerSockets {
  readonly #ctx: DurableObjectState
  readonly #env: Env
  readonly #inboxes = new Map<WebSocket, Inbox>()
  /** Sockets that have said something. */
  readonly #heard = new WeakSet<WebSocket>()

  constructor(ctx: DurableObjectState, env: Env) {
    this.#ctx = ctx
    this.#env = env
  }

  /** The newest one that the runtime kept for us, if it is the connection `conn`; what else there is ends. */
  kept(conn: number): { ws: WebSocket; stood: Attachment } | undefined {
    let newest: { ws: WebSocket; stood: Attachment } | undefined
    for (const ws of this.#ctx.getWebSockets()) {
      const stood = ws.deserializeAttachment() as Attachment | null
      if (stood?.conn === conn) newest = { ws, stood }
      else if (stood?.greeted) closeQuietly(ws, CLOSE.superseded, SUPERSEDED)
    }
    return newest
  }

  /** Returns the number of the connection. */
  open(ws: WebSocket, seat: Seat, url: string): number {
    this.#ctx.acceptWebSocket(ws)
    const inbox = this.#inbox(ws, seat, url)
    inbox.open(this.#wire(ws), RUNNER_TOKEN_TTL_S * 1_000)
    ws.serializeAttachment({ ...inbox.standing, url } satisfies Attachment)
    return inbox.conn
  }

  reopen({ ws, stood }: { ws: WebSocket; stood: Attachment }, seat: Seat): void {
    if (stood.greeted) this.#heard.add(ws)
    this.#inbox(ws, seat, stood.url).reopen(this.#wire(ws), stood)
  }

  push(ws: WebSocket, data: string | ArrayBuffer): void {
    this.#heard.add(ws)
    const inbox = this.#inboxes.get(ws)
    if (inbox) inbox.push(data)
    else closeQuietly(ws, CLOSE.superseded, SUPERSEDED)
  }

  closed(ws: WebSocket, code = 1006): void {
    this.#inboxes.get(ws)?.closed()
    this.#inboxes.delete(ws)
    // 1005 and 1006 say that there was no code, and cannot be sent.
    closeQuietly(ws, code === 1005 || code === 1006 ? 1000 : code, '')
  }

  /** What the auto-response heard while nobody here was awake. */
  freshen(seat: Seat): void {
    for (const [ws, inbox] of this.#inboxes) {
      const at = this.heardAt(ws)
      if (at !== undefined) seat.heard(inbox.conn, at)
    }
  }

  heardAt(ws: WebSocket): number | undefined {
    return this.#ctx.getWebSocketAutoResponseTimestamp(ws)?.getTime()
  }

  #inbox(ws: WebSocket, seat: Seat, url: string): Inbox {
    const inbox = new Inbox({
      seat: () => seat,
      refresh: async (assertion) => {
        const store = sharedStore(this.#env)
        const deps = {
          store,
          platform: platform(),
          ...(await identityFor(this.#env, store)),
          settings: settingsOf(this.#env),
        }
        return refreshToken(deps, assertion, seat.who.runner, url)
      },
      log,
      now: () => Date.now(),
      stands: (standing) => ws.serializeAttachment({ ...standing, url } satisfies Attachment),
    })
    this.#inboxes.set(ws, inbox)
    return inbox
  }

  #wire(ws: WebSocket): Wire {
    return {
      send(data) {
        // A socket that has just closed throws; its close event is under way.
        try {
          ws.send(data)
        } catch {
          return
        }
      },
      close: (code, reason) => {
        // A client that was reset before it had our 101 leaves a socket that never closes (workerd 2026-10-23), and whatever
        // is written to it keeps this object in memory for good. One that lives will say something, and is closed then.
        if (this.#heard.has(ws)) closeQuietly(ws, code, reason)
        else this.#inboxes.delete(ws)
      },
    }
  }
}

function closeQuietly(ws: WebSocket, code: number, reason: string): void {
  try {
    ws.close(code, reason)
  } catch {
    // It is closed already.
  }
}
