/**
 * Between the CLI and those who are paid: one HTTP server on loopback that knows each CLI process by a random token, and
 * what pays for the turn that it is in. Outside of a turn the token opens nothing; of a key the CLI never hears.
 *
 * What a run may use is decided before, by the router and the owner; who is asked for one request, in `forward`.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Grant, Metered, ProviderReport } from '../../shared/grants.ts'
import type { Clock } from '../clock.ts'
import { listen } from '../demo/messages-sse.ts'
import { readBody, Room } from './bodies.ts'
import { Breakers } from './breakers.ts'
import { dialler } from './dial.ts'
import { forward, type Office, type Turn } from './forward.ts'
import { Ledger } from './ledger.ts'
import { News } from './news.ts'
import type { Purse } from './purse.ts'
import { refuse } from './refusal.ts'
import { routeOf } from './routes.ts'

export interface GatewayOptions {
  /** The runner's own: for its proxy. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  /** How a request of a run that the router pays for has ended. */
  report(report: ProviderReport): void
  log(message: string, fields: Record<string, unknown>): void
}

/** One CLI process at the gateway. */
export interface Seat {
  /** What the CLI needs to come here. */
  readonly env: { readonly ANTHROPIC_BASE_URL: string; readonly ANTHROPIC_API_KEY: string }
  /** A turn, and what pays for it. */
  begin(purse: Purse): void
  /** Cuts what is still under way. Never rejects. */
  end(): Promise<Metered>
  /** Its token is nobody's from now on. */
  leave(): Promise<void>
}

export interface Gateway {
  readonly url: string
  /** For a CLI process of this tenant's, which pays with nobody else's purse. */
  seat(tenant: string): Seat
  /** What the router says of the health of a tenant's provider, with a grant. */
  told(tenant: string, grant: Grant): void
  close(): Promise<void>
}

/** Of one turn; a CLI with ten subagents at work needs a dozen. */
const MAX_AT_ONCE = 64
/** Of the requests of one turn, and of all together: the body of each is kept until its answer is through. */
const MAX_RUN_BODY_BYTES = 64 * 1024 * 1024
const MAX_ALL_BODY_BYTES = 256 * 1024 * 1024
/** A connection that waits between two requests is the CLI's to close: it would take our closing for a provider's failure. */
const IDLE_MS = 3_600_000

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const seats = new Map<string, ProcessSeat>()
  const out = dialler(options.env)
  const breakers = new Breakers()
  const bodies = new Room(MAX_ALL_BODY_BYTES)
  const office: Office = {
    clock: options.clock,
    dialler: out,
    breaker: (purse, payer) => (purse.account ? breakers.of(purse.tenant, payer) : undefined),
  }
  const server = createServer({ keepAliveTimeout: IDLE_MS, requestTimeout: 0 }, (request, response) => {
    answer(request, response, seats, bodies, office).catch((error: unknown) => {
      options.log('a request to the gateway could not be answered', { err: error })
      response.destroy()
    })
  })
  const { url, close } = await listen(server)
  return {
    url,
    seat(tenant) {
      const token = randomBytes(32).toString('base64url')
      const seat = new ProcessSeat(url, token, tenant, () => seats.delete(digest(token)), options)
      seats.set(digest(token), seat)
      return seat
    },
    told: (tenant, grant) => breakers.of(tenant, grant).told(grant, options.clock.now()),
    async close() {
      await Promise.all([...seats.values()].map((seat) => seat.leave()))
      await close()
      await out.close()
    },
  }
}

type Seats = ReadonlyMap<string, ProcessSeat>

async function answer(request: IncomingMessage, response: ServerResponse, seats: Seats, bodies: Room, office: Office): Promise<void> {
  // The CLI opens its connection with a bare HEAD / before it has anything to prove itself with.
  if (request.method === 'HEAD' && request.url === '/') {
    response.writeHead(200).end()
    return
  }
  const token = tokenOf(request)
  const seat = seats.get(digest(token))
  if (!seat?.isFor(token)) return refuse(response, 401, 'authentication_error', 'the token is of no process of this runner', CLOSE)
  const path = pathOf(request.url ?? '')
  if (path === undefined) return refuse(response, 400, 'invalid_request_error', 'the path of the request is not one', CLOSE)
  if (seat.isBusy) return refuse(response, 429, 'rate_limit_error', `${MAX_AT_ONCE} requests of this run are under way`, CLOSE)
  const { method = 'GET', headers } = request
  const route = routeOf(method, path)
  if (route === undefined) return refuse(response, 404, 'not_found_error', 'a run may ask for messages and models only', CLOSE)
  const served = await seat.serve(request, response, async (turn, own) => {
    const read = await readBody(request, [own, bodies])
    try {
      if (read.kind === 'long') return refuse(response, 413, 'request_too_large', `the request has over ${read.maxBytes} bytes`, CLOSE)
      if (read.kind === 'full') return refuse(response, 429, 'rate_limit_error', 'the requests under way are too large', { ...CLOSE, retry: true })
      await forward({ method, path, headers, body: read.body, token }, route, turn, response, office)
    } finally {
      read.release()
    }
  })
  if (!served) refuse(response, 403, 'permission_error', 'no turn is running', CLOSE)
}

// What is left of the request is not read.
const CLOSE = { close: true }

type Running = {
  readonly purse: Purse
  readonly ledger: Ledger
  readonly news: News
  readonly bodies: Room
  readonly over: AbortController
  readonly inFlight: Map<Promise<void>, ServerResponse>
  /** Requests that were not of the session. */
  strangers: number
}

class ProcessSeat implements Seat {
  readonly env: Seat['env']
  readonly #token: string
  readonly #tenant: string
  readonly #gone: () => void
  readonly #options: GatewayOptions
  #running: Running | undefined

  constructor(url: string, token: string, tenant: string, gone: () => void, options: GatewayOptions) {
    this.env = { ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: token }
    this.#token = token
    this.#tenant = tenant
    this.#gone = gone
    this.#options = options
  }

  isFor(token: string): boolean {
    const [given, own] = [Buffer.from(token), Buffer.from(this.#token)]
    return given.length === own.length && timingSafeEqual(given, own)
  }

  get isBusy(): boolean {
    return (this.#running?.inFlight.size ?? 0) >= MAX_AT_ONCE
  }

  begin(purse: Purse): void {
    if (purse.tenant !== this.#tenant) throw new Error('a process of one tenant cannot have the purse of another')
    this.#running ??= {
      purse,
      ledger: new Ledger(),
      news: new News(this.#options, this.#options.clock),
      bodies: new Room(MAX_RUN_BODY_BYTES),
      over: new AbortController(),
      inFlight: new Map(),
      strangers: 0,
    }
  }

  async end(): Promise<Metered> {
    const running = this.#running
    this.#running = undefined
    if (!running) return new Ledger().metered
    running.over.abort()
    // A body that never comes would keep the turn from ending.
    for (const response of running.inFlight.values()) response.destroy()
    await Promise.allSettled(running.inFlight.keys())
    running.news.flush()
    const { run } = running.purse
    if (running.strangers > 0) this.#options.log('requests of a run were not of its session', { run, requests: running.strangers })
    return running.ledger.metered
  }

  async leave(): Promise<void> {
    this.#gone()
    await this.end()
  }

  /** False between turns: then nothing was read of the request. */
  async serve(request: IncomingMessage, response: ServerResponse, work: (turn: Turn, bodies: Room) => Promise<void>): Promise<boolean> {
    const running = this.#running
    if (!running) return false
    // Subagents share the session. Any process of the run may send what it likes, so this tells and decides nothing.
    const session = request.headers['x-claude-code-session-id']
    if (session !== running.purse.session) running.strangers++
    const left = new AbortController()
    response.once('close', () => left.abort())
    const signal = AbortSignal.any([running.over.signal, left.signal])
    const { purse, ledger, news, bodies } = running
    const done = work({ purse, ledger, news, signal }, bodies)
    running.inFlight.set(done, response)
    try {
      await done
    } catch (error) {
      // Whoever sent it has gone before it was whole.
      if (!signal.aborted) throw error
    } finally {
      running.inFlight.delete(done)
    }
    return true
  }
}

function tokenOf({ headers }: IncomingMessage): string {
  const key = headers['x-api-key']
  if (typeof key === 'string') return key
  return /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1] ?? ''
}

/** Seats are looked up by this, so that how long it takes tells nothing of a token. */
function digest(token: string): string {
  return createHash('sha256').update(token).digest('base64')
}

/** Path and query without `..`, which would climb out of a base URL's path; undefined for another form of target. */
function pathOf(target: string): string | undefined {
  if (!target.startsWith('/') || !URL.canParse(`http://gateway${target}`)) return undefined
  const { pathname, search } = new URL(`http://gateway${target}`)
  return pathname + search
}
