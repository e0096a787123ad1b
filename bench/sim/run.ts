/** One run on a simulated runner: its go starts the source, and what that prints goes into the outbox. */
import type { Offer } from '../../shared/frames.ts'
import type { ExitReason, Usage } from '../../shared/marks.ts'
import type { Source, StartSource } from '../floor/source.ts'
import { Outbox, type Ref, type Send } from './outbox.ts'

/** Where a simulated run says that it lives. */
export const CWD = '/simulated'

const USAGE: Usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }

export class SimulatedRun {
  readonly ref: Ref
  readonly outbox: Outbox
  readonly #offer: Offer
  readonly #send: Send
  readonly #start: StartSource
  #source: Source | undefined
  #state: 'accepted' | 'running' | 'ended' = 'accepted'
  #cancelled = false

  constructor(offer: Offer, send: Send, start: StartSource) {
    this.ref = { run: offer.run, fence: offer.fence }
    this.outbox = new Outbox(this.ref, send)
    this.#offer = offer
    this.#send = send
    this.#start = start
  }

  /** The first lease. Later ones change nothing. */
  go(): void {
    if (this.#state !== 'accepted') return
    this.#state = 'running'
    this.#send(JSON.stringify({ t: 'starting', ...this.ref }))
    const { session, prompt } = this.#offer.spec
    this.outbox.push({ kind: 'started', session_id: session.id, provider: 'local', cli_version: '0', cwd: CWD, warm: false })
    this.#source = this.#start(prompt, { lines: (bytes) => this.outbox.push(bytes), end: () => this.#exit(this.#cancelled ? 'cancelled' : 'completed') })
  }

  /** It ends as the CLI does when it is interrupted. */
  cancel(): void {
    if (this.#state === 'accepted') return this.#exit('cancelled')
    this.#cancelled = true
    this.#source?.interrupt()
  }

  /** Nobody wants to hear of it any more. */
  drop(): void {
    if (this.#state === 'running') this.cancel()
    this.outbox.close()
  }

  #exit(reason: ExitReason): void {
    this.#state = 'ended'
    this.#source = undefined
    const seq = this.outbox.last
    // Once it has begun, the line before the exit is that of the result.
    const result = seq === 0 ? {} : { result: { seq, is_error: false, cost_usd: 0, usage: USAGE, num_turns: 1 } }
    this.outbox.push({ kind: 'exit', code: 0, signal: null, reason, ...result, duration_ms: 1 })
  }
}
