/**
 * What of one simulated run is on its way: a line at once when nothing is, else with the next ack or after the protocol's
 * 16 ms, and nothing past the window. A line is forgotten once it was sent: a simulated runner does not outlive its connection.
 */
import { encodeEventFrame } from '../../shared/event-frames.ts'
import { COALESCE_BYTES, COALESCE_MS, RUN_WINDOW } from '../../shared/limits.ts'
import type { Mark } from '../../shared/marks.ts'

export type Send = (data: string | Uint8Array<ArrayBuffer>) => void
export type Ref = { readonly run: string; readonly fence: number }

export class Outbox {
  readonly #ref: Ref
  readonly #send: Send
  #waiting: (Uint8Array | Mark)[] = []
  /** What was sent and not acknowledged: the last seq of each message, and its bytes. */
  #inFlight: { seq: number; bytes: number }[] = []
  #unacked = 0
  #window = RUN_WINDOW
  #sent = 0
  #timer: NodeJS.Timeout | undefined

  constructor(ref: Ref, send: Send) {
    this.#ref = ref
    this.#send = send
  }

  /** The newest seq. */
  get last(): number {
    return this.#sent + this.#waiting.length
  }

  /** `entry`: a line with its line end, or a mark, which goes behind all lines before it. */
  push(entry: Uint8Array | Mark): void {
    this.#waiting.push(entry)
    if (this.#inFlight.length === 0) this.#flush()
    else this.#timer ??= setTimeout(() => this.#flush(), COALESCE_MS)
  }

  ack(seq: number, window: number): void {
    this.#window = window
    while (this.#inFlight[0] && this.#inFlight[0].seq <= seq) this.#unacked -= this.#inFlight.shift()!.bytes
    this.#flush()
  }

  close(): void {
    clearTimeout(this.#timer)
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (this.#waiting.length > 0 && (this.#inFlight.length === 0 || this.#unacked < this.#window)) {
      const data = this.#take()
      this.#unacked += data.length
      this.#inFlight.push({ seq: this.#sent, bytes: data.length })
      this.#send(data)
    }
  }

  #take(): string | Uint8Array<ArrayBuffer> {
    const [next] = this.#waiting
    if (next && !(next instanceof Uint8Array)) {
      this.#waiting.shift()
      return JSON.stringify({ t: 'mark', ...this.#ref, seq: ++this.#sent, mark: next })
    }
    const lines: Uint8Array[] = []
    let bytes = 0
    for (const entry of this.#waiting) {
      if (!(entry instanceof Uint8Array) || (bytes > 0 && bytes + entry.length > COALESCE_BYTES)) break
      lines.push(entry)
      bytes += entry.length
    }
    this.#waiting.splice(0, lines.length)
    const first = this.#sent + 1
    this.#sent += lines.length
    return encodeEventFrame({ t: 'ev', ...this.#ref, first, n: lines.length }, Buffer.concat(lines, bytes))
  }
}
