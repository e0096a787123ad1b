/**
 * A run as the server-sent events of claudecode2api: lines end in CRLF, the CLI's lines are `message`, and the last event
 * is `done`, or `error` for a run that was cut off.
 *
 * Ids and comments are ours. Its published clients look at `data: ` lines only, so what has no word there is a comment.
 */
import { sseEvent, sseMessages } from '../../../shared/sse.ts'
import type { Framing } from '../../engine/stream.ts'
import type { RunRow } from '../../ports.ts'
import { cutBecause } from '../kit/cut.ts'
import { processOf } from './process-id.ts'

const EOL = '\r\n'
const encoder = new TextEncoder()

export function framing(row: RunRow, headers: Readonly<Record<string, string>> = {}): Framing {
  const process = processOf(row.id)
  return {
    headers: { 'cache-control': 'no-cache', 'x-process-id': process, ...headers },
    head: encoder.encode(`retry: 500${EOL}${EOL}`),
    lines: (first, bytes) => sseMessages(first, bytes, { event: 'message', eol: EOL }),
    mark: (seq, kind, json) => (kind === 'started' ? undefined : encoder.encode(`id: ${seq}${EOL}: ${kind} ${json}${EOL}${EOL}`)),
    end(seq, ended) {
      const error = cutBecause(ended)
      const [event, data] = error === undefined ? ['done', { process_id: process }] : ['error', { error }]
      return sseEvent(seq, event, JSON.stringify(data), EOL)
    },
    comment: (now) => encoder.encode(`: ping - ${stamp(now)}+00:00${EOL}${EOL}`),
  }
}

/** As Python's `datetime` is printed, with a blank in the middle. */
const stamp = (ms: number) => new Date(ms).toISOString().replace('T', ' ').replace('Z', '000')
