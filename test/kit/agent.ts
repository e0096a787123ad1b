/** An agent whose router, clock and CLI are in the hands of a test. Frames are read as the router would read them. */
import { Agent } from '../../runner/agent.ts'
import type { Transport } from '../../runner/sender.ts'
import type { TurnSink } from '../../runner/cli-process.ts'
import type { Prepared } from '../../runner/held-run.ts'
import { decodeEventFrame } from '../../shared/event-frames.ts'
import { decodeToRouter, type Hello, type Offer, type Resume, type ToRouter, type ToRunner } from '../../shared/frames.ts'
import { CONNECTION_WINDOW, DEAD_MS, GRACE_MS, LEASE_MS, MAX_MESSAGE, PING_MS, RUN_WINDOW, START_BY_MS } from '../../shared/limits.ts'
import { HandCli } from './cli.ts'
import { TestClock } from './clock.ts'
import { RUN, SPEC } from './core.ts'
import { until } from './wait.ts'

export { RUN } from './core.ts'

export function offer(more: Partial<Offer> = {}): Offer {
  return { t: 'offer', id: 'o1', run: RUN, fence: 1, spec: { ...SPEC, timeout_s: 86_400 }, start_by_ms: START_BY_MS, ...more }
}

type Frame = ToRouter | { t: 'ev'; seq: number; n: number }

export class AgentRig {
  readonly clock = new TestClock()
  readonly cli = new HandCli()
  readonly agent: Agent
  readonly swept: string[] = []
  prepared = 0
  buffered = 0
  prepare: () => Promise<Prepared>
  /** What was sent on the connection that is open now. */
  #frames: Frame[] = []
  #epoch = 0

  constructor(spoolDir: string) {
    this.prepare = () => Promise.resolve(this.cli.prepared)
    this.agent = new Agent({
      clock: this.clock,
      spoolDir,
      slots: 1,
      labels: {},
      provider: 'demo',
      cliVersion: null,
      os: 'test',
      prepare: () => {
        this.prepared++
        return this.prepare()
      },
      sweep: (marker) => Promise.resolve(this.swept.push(marker)),
      diskFree: () => 7,
      load: () => 0.5,
      log: () => undefined,
    })
  }

  open(): void {
    this.#frames = []
    const frames = this.#frames
    const buffered = () => this.buffered
    const transport: Transport = {
      send: (data) => frames.push(...read(data)),
      get buffered() {
        return buffered()
      },
    }
    this.agent.connected(transport)
  }

  welcome(resume: Resume[] = []): void {
    const times = { ping_ms: PING_MS, dead_ms: DEAD_MS, lease_ms: LEASE_MS, grace_ms: GRACE_MS }
    this.receive({ t: 'welcome', proto: 1, epoch: ++this.#epoch, ...times, max_msg: MAX_MESSAGE, credit: CONNECTION_WINDOW, resume })
  }

  connect(resume: Resume[] = []): void {
    this.open()
    this.welcome(resume)
  }

  cut(): void {
    this.agent.disconnected()
  }

  receive(message: Exclude<ToRunner, { t: 'token' } | { t: 'goaway' }>): void {
    this.agent.receive(message)
  }

  /** Offers the run and waits for the accept. */
  offer(): Promise<Extract<ToRouter, { t: 'accept' }>> {
    this.receive(offer())
    return this.sent('accept')
  }

  go(re = 'o1'): void {
    this.receive({ t: 'lease', re, l: [[RUN, 1, LEASE_MS]] })
  }

  /** Offer, accept, go. */
  async run(): Promise<TurnSink> {
    await this.offer()
    this.go()
    return this.cli.started
  }

  /** Preparing takes until `finish`. */
  hold(): { begun: Promise<void>; finish: () => void } {
    let finish = () => undefined as void
    const begun = new Promise<void>((resolve) => {
      this.prepare = () => {
        resolve()
        return new Promise((ready) => (finish = () => ready(this.cli.prepared)))
      }
    })
    return { begun, finish: () => finish() }
  }

  /** Everything that was sent is durable at the router, and what was held back behind it is sent and durable too. */
  ackAll(): void {
    for (let seq = -1; seq !== this.#lastSeq(); ) {
      seq = this.#lastSeq()
      this.receive({ t: 'ack', a: [[RUN, 1, seq, 0, RUN_WINDOW]] })
    }
  }

  /** The `nth` message of this kind, when it is there. */
  sent<T extends ToRouter['t']>(t: T, nth = 1): Promise<Extract<ToRouter, { t: T }>> {
    return until(`${t} to be sent`, () => {
      // Small messages wait for company on the agent's clock.
      this.clock.advance(1)
      return this.all(t)[nth - 1]
    })
  }

  all<T extends ToRouter['t']>(t: T): Extract<ToRouter, { t: T }>[] {
    return this.#frames.filter((frame): frame is Extract<ToRouter, { t: T }> => frame.t === t)
  }

  last<T extends ToRouter['t']>(t: T): Extract<ToRouter, { t: T }> {
    const message = this.all(t).at(-1)
    if (!message) throw new Error(`no ${t} was sent`)
    return message
  }

  hello(): Hello {
    return this.last('hello')
  }

  /** The kinds of what was sent, in order; what carries events with their numbers. */
  types(): string[] {
    return this.#frames.map((frame) => {
      if (frame.t === 'ev') return `ev ${frame.seq}+${frame.n}`
      return frame.t === 'mark' ? `mark ${frame.seq}` : frame.t
    })
  }

  #lastSeq(): number {
    const ends = this.#frames.map((frame) => (frame.t === 'ev' ? frame.seq + frame.n - 1 : frame.t === 'mark' ? frame.seq : 0))
    return Math.max(0, ...ends)
  }
}

function read(data: string | Uint8Array): Frame[] {
  if (typeof data === 'string') {
    const decoded = decodeToRouter(data)
    if (!decoded.ok) throw new Error(`the agent sent ${data}`)
    return [decoded.message]
  }
  const frame = decodeEventFrame(data)
  if (typeof frame === 'string') throw new Error(frame)
  if (frame.header.t !== 'ev') throw new Error('a part was not expected')
  return [{ t: 'ev', seq: frame.header.first, n: frame.header.n }]
}
