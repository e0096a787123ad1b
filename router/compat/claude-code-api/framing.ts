/**
 * A run as the stream of claude-code-api: the lines of the CLI as unnamed events, and an end without a word. What the
 * original swallowed, that a run was cut off, is its event `{"type":"error"}`.
 *
 * Ids and comments are ours; whoever reads `data: ` lines does not see them.
 */
import { ExitReason } from '../../../shared/marks.ts'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../../shared/sse.ts'
import type { Framing } from '../../engine/stream.ts'
import type { RunRow } from '../../ports.ts'

const encoder = new TextEncoder()
/** Codes of runs whose CLI did not get to its end: of the others its own result says what became of them. */
const CUT: ReadonlySet<string> = new Set(ExitReason.options)
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

function errorOf(ended: RunRow | undefined): string | undefined {
  if (!ended) return 'the run is gone'
  if (ended.errorCode === 'timeout') return 'Process timeout'
  return CUT.has(ended.errorCode ?? '') ? (ended.errorMessage ?? ended.errorCode ?? '') : undefined
}
