/**
 * What of one run is sent when: a cursor over its spool, held back by credit.
 *
 * Pure: no socket, no timer. `next` gives the next message or says why there is none; the caller sends it and sets the
 * timer that a `later` asks for. Always one message may be under way, so a line larger than the window is not stuck.
 */
import { encodeEventFrame, PART_BYTES } from '../shared/event-frames.ts'
import { COALESCE_BYTES, COALESCE_MS, RUN_WINDOW } from '../shared/limits.ts'
import type { SpoolRead } from './spool.ts'

/** The part of a spool that sending needs. */
export interface SpoolSource {
  readonly intent: { readonly run: string; readonly fence: number }
  readonly last: number
  isMark(seq: number): boolean
  read(seq: number, maxBytes: number): SpoolRead | undefined
  bytesAfter(seq: number): number
}

/** `data` is a text frame if it is a string. */
export type Outgoing = { data: string | Uint8Array<ArrayBuffer>; bytes: number }
export type Next = { do: 'send'; message: Outgoing } | { do: 'later'; inMs: number } | { do: 'nothing' }

type InFlight = { seq: number; part: number; bytes: number; isMark: boolean }

export class Outbox {
  readonly #spool: SpoolSource
  /** Next seq to send, and next part of it. */
  #seq = 1
  #part = 0
  #acked = 0
  #window = RUN_WINDOW
  #inFlight: InFlight[] = []
  #unacked = 0
  /** When the oldest unsent event was first seen waiting behind an ack. */
  #waitingSince: number | undefined
  /** The line whose parts are being sent, so that each part does not read it anew. */
  #line: { seq: number; bytes: Uint8Array } | undefined

  constructor(spool: SpoolSource) {
    this.#spool = spool
  }

  /** Bytes sent and not yet acknowledged. */
  get unacked(): number {
    return this.#unacked
  }

  get acked(): number {
    return this.#acked
  }

  /** Everything in the spool is durable at the router. */
  get drained(): boolean {
    return this.#acked >= this.#spool.last
  }

  /** A new connection: sending restarts right after what the router has. */
  resume(ack: number, part: number): void {
    this.#acked = ack
    this.#seq = ack + 1
    this.#part = part
    this.#inFlight = []
    this.#unacked = 0
    this.#waitingSince = undefined
    this.#line = undefined
  }

  ack(seq: number, part: number, window: number): void {
    this.#window = window
    this.#acked = Math.max(this.#acked, seq)
    while (this.#inFlight[0] && covers(seq, part, this.#inFlight[0])) this.#unacked -= this.#inFlight.shift()!.bytes
  }

  /** `credit` is what the connection as a whole may still send; asked only when it matters, as it takes a look at all runs. */
  next(now: number, credit: () => number): Next {
    const { last } = this.#spool
    if (this.#seq > last) {
      this.#waitingSince = undefined
      return { do: 'nothing' }
    }
    if (this.#inFlight.length > 0) {
      if (this.#unacked >= this.#window) return { do: 'nothing' }
      this.#waitingSince ??= now
      const waitedMs = now - this.#waitingSince
      if (waitedMs < COALESCE_MS && this.#mayGrow()) return { do: 'later', inMs: COALESCE_MS - waitedMs }
      if (credit() <= 0) return { do: 'nothing' }
    }
    this.#waitingSince = undefined
    const message = this.#take()
    this.#unacked += message.bytes
    return { do: 'send', message }
  }

  /**
   * More lines may come to travel with the next ones, and by then the ack may be there. Not behind a mark alone, which is
   * how a run begins: the first lines of the CLI would wait for nobody's sake.
   */
  #mayGrow(): boolean {
    if (this.#part > 0 || this.#spool.isMark(this.#seq) || this.#inFlight.every(({ isMark }) => isMark)) return false
    return this.#spool.bytesAfter(this.#seq - 1) < COALESCE_BYTES
  }

  #take(): Outgoing {
    const { run, fence } = this.#spool.intent
    if (this.#line?.seq === this.#seq) return this.#takePart(this.#line.bytes)
    const read = this.#spool.read(this.#seq, COALESCE_BYTES)!
    if (read.kind === 'mark') {
      const data = JSON.stringify({ t: 'mark', run, fence, seq: read.seq, mark: read.mark })
      return this.#sent(read.seq + 1, 0, { data, bytes: data.length }, true)
    }
    const { first, count, bytes } = read
    if (count === 1 && bytes.length > PART_BYTES) {
      this.#line = { seq: first, bytes: bytes.subarray(0, -1) }
      return this.#takePart(this.#line.bytes)
    }
    const data = encodeEventFrame({ t: 'ev', run, fence, first, n: count }, bytes)
    return this.#sent(first + count, 0, { data, bytes: data.length })
  }

  #takePart(line: Uint8Array): Outgoing {
    const { run, fence } = this.#spool.intent
    const seq = this.#seq
    const i = this.#part
    const of = Math.max(2, Math.ceil(line.length / PART_BYTES))
    const size = Math.ceil(line.length / of)
    const data = encodeEventFrame({ t: 'part', run, fence, seq, i, of }, line.subarray(i * size, (i + 1) * size))
    if (i + 1 < of) return this.#sent(seq, i + 1, { data, bytes: data.length })
    this.#line = undefined
    return this.#sent(seq + 1, 0, { data, bytes: data.length })
  }

  #sent(seq: number, part: number, message: Outgoing, isMark = false): Outgoing {
    this.#seq = seq
    this.#part = part
    this.#inFlight.push({ seq: seq - 1, part, bytes: message.bytes, isMark })
    return message
  }
}

function covers(seq: number, part: number, sent: InFlight): boolean {
  return sent.seq < seq || (sent.seq === seq && sent.part <= part)
}
