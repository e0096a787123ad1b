/** A runner that a test plays by hand: real enrolment and tokens, and then whatever is to be said on the WebSocket. */
import { randomUUID } from 'node:crypto'
import { WebSocket } from 'ws'
import { encodeEventFrame } from '../../shared/event-frames.ts'
import { decodeToRunner, type HeldRun, type Hello, type ToRouter, type ToRunner } from '../../shared/frames.ts'
import type { Mark } from '../../shared/marks.ts'
import { TOKEN_PATH } from '../../shared/runner-auth.ts'
import { SUBPROTOCOL } from '../../shared/version.ts'
import { fetchAccessToken } from '../../runner/enroll.ts'
import { signAssertion, type Identity } from '../../runner/identity.ts'
import type { Fleet, Membership } from './fleet.ts'
import { resultAt } from './turns.ts'
import { until } from './wait.ts'

type Ref = { readonly run: string; readonly fence: number }
type Message<T extends ToRunner['t']> = Extract<ToRunner, { t: T }>

export class RawRunner {
  readonly identity: Identity
  readonly stateDir: string
  #conns = 0

  private constructor(identity: Identity, stateDir: string) {
    this.identity = identity
    this.stateDir = stateDir
  }

  static async enlist(fleet: Fleet, membership: Membership = {}): Promise<RawRunner> {
    const { identity, stateDir } = await fleet.enlist(membership)
    return new RawRunner(identity, stateDir)
  }

  async token(): Promise<string> {
    return (await fetchAccessToken(this.identity, Date.now())).token
  }

  assertion(audience = this.identity.url + TOKEN_PATH): Promise<string> {
    return signAssertion(this.identity, audience, Date.now())
  }

  /** A socket that has said nothing yet. */
  async dial(token?: string): Promise<RawLink> {
    const bearer = token ?? (await this.token())
    const url = `${this.identity.url.replace(/^http/, 'ws')}/v1/runners/connect`
    const socket = new WebSocket(url, [SUBPROTOCOL], { headers: { authorization: `Bearer ${bearer}` }, perMessageDeflate: false })
    const link = new RawLink(socket, ++this.#conns)
    await link.opened
    return link
  }

  /** A link on which router and runner have greeted each other. */
  async connect(hello: Partial<Hello> = {}): Promise<RawLink> {
    const link = await this.dial()
    link.hello(hello)
    await link.next('welcome')
    return link
  }
}

export class RawLink {
  readonly opened: Promise<void>
  readonly closed: Promise<number>
  /** Everything that came and was not taken by `next` yet. */
  readonly received: ToRunner[] = []
  /** How many pings were answered. */
  pongs = 0
  readonly #socket: WebSocket
  readonly #conn: number
  #closed = false

  constructor(socket: WebSocket, conn: number) {
    this.#socket = socket
    this.#conn = conn
    this.opened = new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    this.closed = new Promise((resolve) => socket.once('close', resolve))
    void this.closed.then(() => (this.#closed = true))
    socket.on('error', () => undefined)
    socket.on('message', (data: Buffer, isBinary) => {
      const text = data.toString()
      if (text === 'pong' && !isBinary) {
        this.pongs++
        return
      }
      const decoded = decodeToRunner(text)
      if (!decoded.ok) throw new Error(`the router sent ${text}`)
      this.received.push(decoded.message)
    })
  }

  /** As it stands, on the wire. */
  raw(data: string | Uint8Array): void {
    this.#socket.send(data)
  }

  send(message: ToRouter): void {
    this.raw(JSON.stringify(message))
  }

  hello(more: Partial<Hello> = {}): void {
    const who = { boot: randomUUID(), conn: this.#conn, agent: '0.0.0-raw', cli: null, os: 'test', caps: [] }
    this.send({ t: 'hello', proto: [1, 1], ...who, slots: 1, labels: {}, provider: 'local', runs: [], ...more })
  }

  /** The next message of this kind; what came before it stays. */
  next<T extends ToRunner['t']>(t: T): Promise<Message<T>> {
    return until(`a message ${t}`, () => {
      const at = this.received.findIndex((message) => message.t === t)
      if (at < 0 && this.#closed) throw new Error(`the link ended before a message ${t}`)
      return at >= 0 && (this.received.splice(at, 1)[0] as Message<T>)
    })
  }

  /** Answers the next offer with yes and waits for the go. */
  async accept(more: { session?: string } = {}): Promise<Message<'offer'>> {
    const offer = await this.next('offer')
    this.send({ t: 'accept', re: offer.id, run: offer.run, fence: offer.fence, cwd: '/work', ...more })
    await this.next('lease')
    return offer
  }

  /** The same, and says that the CLI runs: event 1. */
  async begin(more: { session?: string } = {}): Promise<Message<'offer'>> {
    const offer = await this.accept(more)
    this.send({ t: 'starting', run: offer.run, fence: offer.fence })
    const session_id = offer.spec.session.id
    this.mark(offer, 1, { kind: 'started', session_id, provider: 'local', cli_version: '0', cwd: '/work', warm: false })
    return offer
  }

  mark({ run, fence }: Ref, seq: number, mark: Mark): void {
    this.send({ t: 'mark', run, fence, seq, mark })
  }

  lines({ run, fence }: Ref, first: number, lines: readonly string[]): void {
    const body = Buffer.from(lines.map((line) => `${line}\n`).join(''))
    this.raw(encodeEventFrame({ t: 'ev', run, fence, first, n: lines.length }, body))
  }

  exit(ref: Ref, seq: number, more: Partial<Extract<Mark, { kind: 'exit' }>> = {}): void {
    const result = resultAt(Math.max(1, seq - 1))
    this.mark(ref, seq, { kind: 'exit', code: 0, signal: null, reason: 'completed', result, duration_ms: 1, ...more })
  }

  /** Waits until everything up to `seq` is durable at the router. */
  async acked({ run, fence }: Ref, seq: number): Promise<void> {
    await until(`an ack of ${seq}`, () =>
      this.received.some((m) => m.t === 'ack' && m.a.some(([r, f, upTo]) => r === run && f === fence && upTo >= seq)))
  }

  /** Gone, as by a power cut. */
  cut(): Promise<number> {
    this.#socket.terminate()
    return this.closed
  }
}

/** What a runner that comes back says of a run. */
export const held = ({ run, fence }: Ref, state: HeldRun['state'], last: number): HeldRun => ({ run, fence, state, last })
