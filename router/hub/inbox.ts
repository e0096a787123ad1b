/**
 * One runner's WebSocket, whatever it is made of: decodes frames, keeps them in order, and knows when its token ends.
 *
 * A serial inbox: the hello is answered after database reads, and what arrives meanwhile waits its turn.
 */
import { decodeEventFrame } from '../../shared/event-frames.ts'
import { CLOSE, decodeToRouter, type ToRunner } from '../../shared/frames.ts'
import { ROUTER_MAX_PAYLOAD } from '../../shared/limits.ts'
import { asFault } from '../guard/problem.ts'
import type { Log } from '../ports.ts'
import type { RunnerSocket, Seat } from './seat.ts'

/** Exchanges an in-band assertion for the next token, or throws. */
export type Refresh = (assertion: string) => Promise<{ token: string; expiresInS: number }>

/** The socket underneath: what an inbox needs of it. */
export interface Wire {
  send(data: string): void
  close(code: number, reason: string): void
}

export interface InboxParts {
  /** Asked when the socket opens. */
  readonly seat: () => Seat
  readonly refresh: Refresh
  readonly log: Log
  /** Milliseconds, on the clock of the seat. */
  readonly now: () => number
  /** It said hello, or has a new token: for a host that may forget this inbox and keep its socket. */
  readonly stands?: (standing: Standing) => void
}

/** Where a connection stood when its host forgot it. */
export interface Standing {
  readonly conn: number
  readonly greeted: boolean
  /** When the runner's token ends. */
  readonly validUntil: number
}

export class Inbox implements RunnerSocket {
  readonly #parts: InboxParts
  #seat: Seat | undefined
  #conn = 0
  #ws: Wire | undefined
  #greeted = false
  #validUntil = 0
  /** What is held back, while something is. */
  #queue: Promise<void> | undefined
  #held = 0
  #over = false

  constructor(parts: InboxParts) {
    this.#parts = parts
  }

  get conn(): number {
    return this.#conn
  }

  get standing(): Standing {
    return { conn: this.#conn, greeted: this.#greeted, validUntil: this.#validUntil }
  }

  open(ws: Wire, tokenTtlMs: number): void {
    this.#ws = ws
    this.#seat = this.#parts.seat()
    this.#conn = this.#seat.opened(this)
    this.#validUntil = this.#parts.now() + tokenTtlMs
  }

  /** Goes on where another inbox of the same socket stood. */
  reopen(ws: Wire, { conn, greeted, validUntil }: Standing): void {
    this.#ws = ws
    this.#seat = this.#parts.seat()
    this.#conn = conn
    this.#greeted = greeted
    this.#validUntil = validUntil
    this.#seat.reopened(this)
  }

  /** Something came, if only a ping that the host answers itself. False: too late for that, there is nobody to hear it. */
  heard(): boolean {
    const now = this.#parts.now()
    if (!this.#ws || this.#expired(now)) return false
    this.#seat?.heard(this.#conn, now)
    return true
  }

  push(data: string | ArrayBuffer): void {
    if (!this.heard()) return
    if (data === 'ping') {
      this.#ws?.send('pong')
      return
    }
    if (data instanceof ArrayBuffer ? data.byteLength > ROUTER_MAX_PAYLOAD : data.length > ROUTER_MAX_PAYLOAD) {
      return this.#refuse(CLOSE.tooLarge, `a message is larger than ${ROUTER_MAX_PAYLOAD} bytes`)
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
    ws?.close(code, reason)
  }

  closed(): void {
    this.#ws = undefined
    if (this.#over) return
    this.#over = true
    this.#seat?.closed(this.#conn)
  }

  tick(now: number): void {
    if (this.#ws) this.#expired(now)
  }

  /** A runner whose token has ended says nothing and is asked nothing. True: it was cut off. */
  #expired(now: number): boolean {
    if (now < this.#validUntil) return false
    this.#refuse(CLOSE.auth, 'the token has expired')
    return true
  }

  #handle(data: string | ArrayBuffer): void {
    if (!this.#ws) return
    if (typeof data !== 'string') {
      const frame = decodeEventFrame(new Uint8Array(data))
      if (typeof frame === 'string') return this.#malformed(frame)
      return this.#seat?.frame(this.#conn, frame)
    }
    const decoded = decodeToRouter(data)
    if (!decoded.ok) {
      if (decoded.unknown === undefined) return this.#malformed(decoded.reason)
      return this.#parts.log.warn({ runner: this.#runner, t: decoded.unknown }, 'a message of an unknown type was ignored')
    }
    const { message } = decoded
    if (message.t === 'hello') {
      if (this.#greeted) return this.#malformed('a second hello')
      this.#greeted = true
      return this.#hold(async () => {
        await this.#seat?.greeted(this.#conn, message)
        this.#parts.stands?.(this.standing)
      })
    }
    if (message.t === 'refresh') return this.#hold(() => this.#renew(message.assertion))
    this.#seat?.message(this.#conn, message)
  }

  #hold(work: () => Promise<void>): void {
    this.#held++
    this.#queue = (this.#queue ?? Promise.resolve())
      .then(work)
      .catch((error: unknown) => {
        this.#parts.log.error({ err: error, runner: this.#runner }, 'a message of a runner could not be handled')
        this.close(CLOSE.overload, 'try again')
        this.closed()
      })
      .finally(() => {
        if (--this.#held === 0) this.#queue = undefined
      })
  }

  async #renew(assertion: string): Promise<void> {
    try {
      const { token, expiresInS } = await this.#parts.refresh(assertion)
      this.#validUntil = this.#parts.now() + expiresInS * 1_000
      this.#parts.stands?.(this.standing)
      this.send({ t: 'token', token, expires_in_s: expiresInS })
    } catch (error) {
      // Trouble of the database is no word on who it is.
      if (asFault(error).code === 'storage') this.#refuse(CLOSE.overload, 'the database does not take writes')
      else this.#refuse(CLOSE.auth, 'the assertion is not valid')
    }
  }

  #malformed(reason: string): void {
    this.#refuse(CLOSE.malformed, reason)
  }

  #refuse(code: number, reason: string): void {
    this.#parts.log.warn({ runner: this.#runner, conn: this.#conn, code, reason }, 'closing the connection of a runner')
    this.close(code, reason)
    this.closed()
  }

  get #runner(): string | undefined {
    return this.#seat?.who.runner
  }
}
