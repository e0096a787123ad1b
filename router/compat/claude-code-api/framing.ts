/**
 * A run as the stream of claude-code-api: the lines of the CLI as unnamed events, and an end without a word. What the
 * original swallowed, that a run was cut off, is its event `{"type":"error"}`.
 *
 * Ids and comments are ours; whoever reads `data: ` lines does not see them.
 */
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../../shared/sse.ts'
import type { Framing } from '../../engine/stream.ts'
import type { RunRow } from '../../ports.ts'
import { cutBecause } from '../kit/cut.ts'

const encoder = new TextEncoder()
export const HEADERS = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' } as const

export const framing: Framing = {
  headers: HEADERS,
  head: SSE_RETRY,
  lines: (first, bytes) => sseMessages(first, bytes, {}),
  mark: (seq, kind, json) => (kind === 'started' ? undefined : encoder.encode(`id: ${seq}\n: ${kind} ${json}\n\n`)),
  end(seq, ended) {
    const error = errorOf(ended)
    return error === undefined ? encoder.encode(`id: ${seq}\n: end\n\n`) : sseEvent(seq, undefined, errorEvent(error))
  },
  comment: () => SSE_COMMENT,
}

/** A stream that is nothing but its error, in one piece. */
export const errorStream = (error: string) => `data: ${errorEvent(error)}\n\n`

const errorEvent = (error: string) => JSON.stringify({ type: 'error', error })

const errorOf = (ended: RunRow | undefined) => (ended?.errorCode === 'timeout' ? 'Process timeout' : cutBecause(ended))
