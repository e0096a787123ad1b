/** A client of one run's stream: it reads from a cursor, may stop reading, may go away, and comes back where it was. */
import { isLast } from '../../router/engine/stream.ts'
import type { EventChunk, Page } from '../../router/ports.ts'
import type { Row } from './ledger.ts'

export type Source = (run: string, after: number, signal: AbortSignal) => AsyncIterable<Page>

export class Subscriber {
  readonly row: Row
  readonly #violate: (invariant: string, what: string) => void
  /** The newest event that arrived whole. */
  last: number
  ended = false
  #client: AbortController | undefined
  #gate: { open: Promise<void>; release: () => void } | undefined

  constructor(row: Row, after: number, violate: (invariant: string, what: string) => void) {
    this.row = row
    this.last = after
    this.#violate = violate
  }

  get connected(): boolean {
    return this.#client !== undefined
  }

  connect(source: Source): void {
    this.leave()
    const client = new AbortController()
    this.#client = client
    void this.#read(source(this.row.id, this.last, client.signal), client)
  }

  leave(): void {
    this.#client?.abort()
    this.#client = undefined
    this.resume()
  }

  stall(): void {
    if (this.#gate) return
    let release: () => void = () => undefined
    const open = new Promise<void>((resolve) => (release = resolve))
    this.#gate = { open, release }
  }

  resume(): void {
    this.#gate?.release()
    this.#gate = undefined
  }

  async #read(pages: AsyncIterable<Page>, client: AbortController): Promise<void> {
    for await (const page of pages) {
      await this.#gate?.open
      if (client.signal.aborted) return
      for (const chunk of page) this.#take(chunk)
    }
    if (this.#client === client) this.#client = undefined
  }

  #take(chunk: EventChunk): void {
    const { id, events } = this.row
    if (this.ended) this.#violate('I5', `${id}: a subscriber got ${chunk.first} after the end`)
    const got = `${id}: a subscriber got ${chunk.first}`
    if (chunk.first !== this.last + 1) this.#violate(chunk.first <= this.last ? 'I2' : 'I3', `${got} after ${this.last}`)
    // Straight from a commit, lines come as they were sent: several in one.
    const durable = events.slice(chunk.first - 1, chunk.first - 1 + chunk.count)
    if (durable.length < chunk.count) this.#violate('I8', `${got}, and ${events.length} are durable`)
    else if (Buffer.compare(Buffer.concat(durable.map(({ bytes }) => bytes)), chunk.bytes) !== 0) this.#violate('I4', `${got} with other bytes than the log has`)
    this.last = chunk.first + chunk.count - 1
    this.ended ||= isLast(chunk)
  }
}
