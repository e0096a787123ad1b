/**
 * The link to the router: prove who we are, connect, and dial again when the connection ends. What is said on it is
 * the agent's.
 */
import { HOPELESS_CODES, isHopeless, reconnectDelayMs, STABLE_MS } from '../shared/backoff.ts'
import { CLOSE, type ToRunner } from '../shared/frames.ts'
import { TOKEN_PATH } from '../shared/runner-auth.ts'
import type { Agent } from './agent.ts'
import { connect, type Connection, type Ended } from './connection.ts'
import { fetchAccessToken } from './enroll.ts'
import { IdentityError, signAssertion, type Identity } from './identity.ts'
import type { Transport } from './sender.ts'

/** A token is renewed when this share of its life is over. */
const REFRESH_AT = 0.8

export interface LinkEvents {
  log(level: 'info' | 'warn', message: string, fields: Record<string, unknown>): void
}

export class Link {
  readonly #identity: Identity
  readonly #agent: Agent
  readonly #events: LinkEvents
  readonly #stopping = new AbortController()
  #connection: Connection | undefined
  #transport: Transport | undefined
  #token: { value: string; staleAt: number } | undefined
  #refresher: NodeJS.Timeout | undefined
  #spread: [number, number] | undefined

  constructor(identity: Identity, agent: Agent, events: LinkEvents) {
    this.#identity = identity
    this.#agent = agent
    this.#events = events
  }

  get connected(): boolean {
    return this.#connection?.open ?? false
  }

  /** Keeps a link until `stop`. Resolves to undefined then, or to why dialling on has no point: revoked, unknown there, too old. */
  async run(): Promise<string | undefined> {
    let attempt = 0
    let hopeless = 0
    let hopelessSince = 0
    let lastLive = performance.now()
    while (!this.#stopping.signal.aborted) {
      const ended = await this.#once()
      if (this.#stopping.signal.aborted) break
      const now = performance.now()
      if (ended.liveMs > 0) lastLive = now
      if (ended.liveMs >= STABLE_MS) attempt = 0
      if (HOPELESS_CODES.has(ended.code)) {
        this.#token = undefined
        if (hopeless++ === 0) hopelessSince = now
        if (isHopeless(hopeless, now - hopelessSince)) return ended.reason
      } else if (ended.liveMs > 0) hopeless = 0
      const delayMs = this.#nextDelay(attempt++, now - lastLive)
      this.#events.log('warn', 'no link to the router; dialling again', { code: ended.code, reason: ended.reason, in_ms: Math.round(delayMs) })
      await pause(delayMs, this.#stopping.signal)
    }
    return undefined
  }

  stop(): void {
    this.#stopping.abort()
    this.#connection?.close()
  }

  #nextDelay(attempt: number, sinceLiveMs: number): number {
    if (!this.#spread) return reconnectDelayMs(attempt, sinceLiveMs, Math.random)
    const [min, max] = this.#spread
    this.#spread = undefined
    return min + Math.random() * (max - min)
  }

  async #once(): Promise<Ended> {
    let token: string
    try {
      token = await this.#freshToken()
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error
      return { code: error.problem === 'refused' ? CLOSE.auth : 1006, reason: error.message, liveMs: 0 }
    }
    if (this.#stopping.signal.aborted) return { code: 1000, reason: 'stopping', liveMs: 0 }
    this.#connection = connect(this.#identity.url, token, {
      opened: (transport) => {
        this.#events.log('info', 'connected to the router', { url: this.#identity.url })
        this.#transport = transport
        this.#agent.connected(transport)
        this.#renewLater()
      },
      message: (message) => this.#receive(message),
      log: (message, fields) => this.#events.log('warn', message, fields),
    })
    const ended = await this.#connection.ended
    clearTimeout(this.#refresher)
    this.#connection = undefined
    this.#transport = undefined
    this.#agent.disconnected()
    return ended
  }

  #receive(message: ToRunner): void {
    if (message.t === 'token') {
      this.#keep(message.token, message.expires_in_s)
      this.#renewLater()
    } else if (message.t === 'goaway') {
      this.#spread = message.after_ms
      this.#events.log('info', 'the router is going away', { reason: message.reason })
    } else this.#agent.receive(message)
  }

  async #freshToken(): Promise<string> {
    if (this.#token && this.#token.staleAt > performance.now()) return this.#token.value
    const { token, expiresInS } = await fetchAccessToken(this.#identity, Date.now())
    return this.#keep(token, expiresInS)
  }

  #keep(token: string, expiresInS: number): string {
    this.#token = { value: token, staleAt: performance.now() + expiresInS * 1_000 * REFRESH_AT }
    return token
  }

  #renewLater(): void {
    clearTimeout(this.#refresher)
    const inMs = Math.max(0, (this.#token?.staleAt ?? 0) - performance.now())
    this.#refresher = setTimeout(() => {
      signAssertion(this.#identity, this.#identity.url + TOKEN_PATH, Date.now()).then(
        (assertion) => this.#transport?.send(JSON.stringify({ t: 'refresh', assertion })),
        (error: unknown) => this.#events.log('warn', 'the token could not be renewed', { err: error }),
      )
    }, inMs)
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
    if (signal.aborted) done()
  })
}
