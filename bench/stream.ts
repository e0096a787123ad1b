/** A client that reads a run's events and little more: it must not be what is measured. */
import { request, type IncomingMessage } from 'node:http'
import type { Where } from '../test/chaos/subscriber.ts'

export type Plan = { bytes: number; lines?: number; everyMs?: number }

const SEPARATOR = Buffer.from('\n\n')
const ID = Buffer.from('id: ')
const AT = Buffer.from('"at":')

export interface Streamed {
  readonly run: string
  /** Events that have an id, up to now. Counted from its pieces, without parsing. */
  readonly events: number
  /** Resolves when the first line of the CLI is here. */
  readonly begun: Promise<void>
  /** Resolves with the stream; rejects unless every number from 1 to that of `done` came. */
  readonly ended: Promise<void>
}

/**
 * Posts a run and reads its stream. `onLine` gets the lag of each line that says when it was printed, in ms, on the
 * machine's monotonic clock.
 */
export async function stream({ port, token }: Where, plan: Plan, onLine?: (lagMs: number) => void): Promise<Streamed> {
  const body = JSON.stringify({ prompt: JSON.stringify(plan), timeout_s: 900 })
  const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream', 'content-type': 'application/json' }
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, method: 'POST', path: '/v1/runs', agent: false, headers }, resolve)
    outgoing.on('error', reject)
    outgoing.end(body)
  })
  if (response.statusCode !== 200) throw new Error(`POST /v1/runs answered ${response.statusCode}`)
  let begin: () => void = () => undefined
  const begun = new Promise<void>((resolve) => (begin = resolve))
  const counter = new Counter()
  const ended = (async () => {
    for await (const chunk of response) {
      const piece = chunk as Buffer
      counter.push(piece)
      if (counter.events > 2) begin()
      if (onLine) for (const lag of lags(piece)) onLine(lag)
    }
    const last = counter.last
    if (!last.includes('event: done') || Number(/id: (\d+)/.exec(last)?.[1]) !== counter.events) throw new Error(`the stream ended after ${counter.events} events with ${last.slice(0, 200)}`)
  })()
  ended.catch(() => begin())
  return {
    run: response.headers['x-run-id'] as string,
    get events() {
      return counter.events
    },
    begun,
    ended,
  }
}

/** Counts events, and keeps the text of the last one. */
class Counter {
  events = 0
  last = ''
  #rest: Buffer = Buffer.alloc(0)

  push(piece: Buffer): void {
    const data = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece])
    let from = 0
    let last: [number, number] | undefined
    for (let to = data.indexOf(SEPARATOR); to >= 0; to = data.indexOf(SEPARATOR, from)) {
      // Comments and the retry hint have no id.
      if (data.indexOf(ID, from) === from) {
        this.events++
        last = [from, to]
      }
      from = to + SEPARATOR.length
    }
    if (last) this.last = data.toString('utf8', ...last)
    this.#rest = data.subarray(from)
  }
}

/** A line that was cut by the network is left out: there are enough. */
function lags(piece: Buffer): number[] {
  const now = Number(process.hrtime.bigint() / 1_000n)
  const found: number[] = []
  for (let at = piece.indexOf(AT); at >= 0; at = piece.indexOf(AT, at + 1)) {
    const end = piece.indexOf(',', at)
    if (end < 0) break
    found.push((now - Number(piece.toString('latin1', at + AT.length, end))) / 1_000)
  }
  return found
}
