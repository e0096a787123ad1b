/**
 * One runner's WebSocket on Node: decodes frames, keeps them in order, and knows when its token ends.
 *
 * A serial inbox: the hello is answered after database reads, and what arrives meanwhile waits its turn.
 */
import { upgradeWebSocket } from '@hono/node-server'
import type { Context } from 'hono'
import type { WSContext } from 'hono/ws'
import { decodeEventFrame } from '../../shared/event-frames.ts'
import { CLOSE, decodeToRouter, type ToRunner } from '../../shared/frames.ts'
import { asFault } from '../guard/problem.ts'
import type { Log, RunnerIdentity } from '../ports.ts'
import type { NodeHub, RunnerSocket } from './hub.ts'

/** Exchanges an in-band assertion for the next token, or throws. `connectUrl` is the address the runner dialled. */
export type Refresh = (assertion: string, runner: string, connectUrl: string) => Promise<{ token: string; expiresInS: number }>

/** The socket underneath: what an inbox needs of it. */
export interface Wire {
  send(data: string): void
  close(code: number, reason: string): void
}

export function acceptRunner(refresh: Refresh, tokenTtlMs: number, log: Log) {
  return async (c: Context, who: RunnerIdentity, hub: NodeHub): Promise<Response> => {
    const inbox = new Inbox(who, hub, (assertion) => refresh(assertion, who.runner, c.req.url), tokenTtlMs, log)
    const response = await upgradeWebSocket(() => ({
      onOpen: (_event, ws) => inbox.open(wire(ws)),
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
      // A peer that does not answer the close would keep the socket for 30 s.
      const raw = ws.raw as { terminate?: () => void } | undefined
      setTimeout(() => raw?.terminate?.(), 1_000).unref()
    },
  }
}

export class Inbox implements RunnerSocket {
  readonly #who: RunnerIdentity
  readonly #hub: NodeHub
  readonly #refresh: (assertion: string) => ReturnType<Refresh>
  readonly #log: Log
  readonly #ttlMs: number
  #conn = 0
  #ws: Wire | undefined
  #greeted = false
  #queue: Promise<void> = Promise.resolve()
  #held = 0
  #expiry: NodeJS.Timeout | undefined

  constructor(who: RunnerIdentity, hub: NodeHub, refresh: (assertion: string) => ReturnType<Refresh>, ttlMs: number, log: Log) {
    this.#who = who
    this.#hub = hub
    this.#refresh = refresh
    this.#ttlMs = ttlMs
    this.#log = log
  }

  get conn(): number {
    return this.#conn
  }

  open(ws: Wire): void {
    this.#ws = ws
    this.#conn = this.#hub.opened(this.#who, this)
    this.#validFor(this.#ttlMs)
  }

  push(data: string | ArrayBuffer): void {
    if (!this.#ws) return
    this.#hub.heard(this.#who, this.#conn)
    if (data === 'ping') {
      this.#ws.send('pong')
      return
    }
    // In order, and without a turn of the event loop while nothing is being waited for.
    if (this.#held === 0) this.#handle(data)
    else this.#hold(() => Promise.resolve(this.#handle(data)))
  }

  send(message: ToRunner): void {
    this.#ws?.send(JSON.stringify(message))
  }

  close(code: number, reason: string): void {
    const ws = this.#ws
    this.#ws = undefined
    clearTimeout(this.#expiry)
    ws?.close(code, reason)
  }

  closed(): void {
    this.#ws = undefined
    clearTimeout(this.#expiry)
    this.#hub.closed(this.#who, this.#conn)
  }

  #handle(data: string | ArrayBuffer): void {
    if (!this.#ws) return
    if (typeof data !== 'string') {
      const frame = decodeEventFrame(new Uint8Array(data))
      if (typeof frame === 'string') return this.#malformed(frame)
      return this.#hub.frame(this.#who, this.#conn, frame)
    }
    const decoded = decodeToRouter(data)
    if (!decoded.ok) {
      if (decoded.unknown === undefined) return this.#malformed(decoded.reason)
      return this.#log.warn({ runner: this.#who.runner, t: decoded.unknown }, 'a message of an unknown type was ignored')
    }
    const { message } = decoded
    if (message.t === 'hello') {
      if (this.#greeted) return this.#malformed('a second hello')
      this.#greeted = true
      return this.#hold(() => this.#hub.greeted(this.#who, this.#conn, message))
    }
    if (message.t === 'refresh') return this.#hold(() => this.#renew(message.assertion))
    this.#hub.message(this.#who, this.#conn, message)
  }

  #hold(work: () => Promise<void>): void {
    this.#held++
    this.#queue = this.#queue
      .then(work)
      .catch((error: unknown) => {
        this.#log.error({ err: error, runner: this.#who.runner }, 'a message of a runner could not be handled')
        this.close(CLOSE.overload, 'try again')
        this.#hub.closed(this.#who, this.#conn)
      })
      .finally(() => this.#held--)
  }

  async #renew(assertion: string): Promise<void> {
    try {
      const { token, expiresInS } = await this.#refresh(assertion)
      this.#validFor(expiresInS * 1_000)
      this.send({ t: 'token', token, expires_in_s: expiresInS })
    } catch (error) {
      // Trouble of the database is no word on who it is.
      if (asFault(error).code === 'storage') this.#refuse(CLOSE.overload, 'the database does not take writes')
      else this.#refuse(CLOSE.auth, 'the assertion is not valid')
    }
  }

  #validFor(ms: number): void {
    clearTimeout(this.#expiry)
    this.#expiry = setTimeout(() => this.#refuse(CLOSE.auth, 'the token has expired'), ms)
    this.#expiry.unref()
  }

  #malformed(reason: string): void {
    this.#refuse(CLOSE.malformed, reason)
  }

  #refuse(code: number, reason: string): void {
    this.#log.warn({ runner: this.#who.runner, conn: this.#conn, code, reason }, 'closing the connection of a runner')
    this.close(code, reason)
    this.#hub.closed(this.#who, this.#conn)
  }
}
