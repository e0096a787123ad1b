/**
 * A run as a stream of server-sent events: a cursor over the log, framed on the way out.
 *
 * It is written as far as the client takes it, so a slow one holds one page and never the run. The last event is `done`; a
 * stream that ends without it was cut and can be resumed with `Last-Event-ID`.
 */
import type { Context } from 'hono'
import type { ExitMark } from '../../shared/marks.ts'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../shared/sse.ts'
import type { AppEnv, Deps, EventChunk, RunRef, RunRow } from '../ports.ts'
import { isTerminal } from '../core/run-state.ts'
import { bodyOf } from './body-source.ts'
import { RunStream } from './run-stream.ts'
import { runSummary } from './run-view.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** How a dialect writes what happens. Each piece is written as one chunk: some clients parse chunks, not events. */
export interface Framing {
  readonly headers?: Readonly<Record<string, string>>
  /** Before anything else. */
  readonly head: Uint8Array
  /** `bytes` are whole lines of the CLI, the first of which is event `first`. */
  lines(first: number, bytes: Uint8Array): Uint8Array
  /** A mark of ours but the exit, as the JSON that is stored; undefined where the dialect has no word for it. */
  mark(seq: number, kind: string, json: string): Uint8Array | undefined
  /** The last piece. `row` is that of the ended run; undefined if it is gone. */
  end(seq: number, row: RunRow | undefined): Uint8Array | Promise<Uint8Array>
  /** The place in the line of a run that waits. */
  queued?(position: number): Uint8Array
  /** Says that the stream lives. */
  comment(now: number): Uint8Array
}

const native = (run: string): Framing => ({
  head: SSE_RETRY,
  lines: (first, bytes) => sseMessages(first, bytes),
  mark: sseEvent,
  end: (seq, ended) => sseEvent(seq, 'done', JSON.stringify(ended ? runSummary(ended) : { id: run })),
  queued: queuedNotice,
  comment: () => SSE_COMMENT,
})

/** The events of a run as its row was a moment ago, after `afterSeq`, for as long as whoever asked is welcome. */
export function streamTo(c: Context<AppEnv>, row: RunRow, afterSeq: number, framing: Framing = native(row.id)): Response {
  const headers = {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
    'x-run-id': row.id,
    ...framing.headers,
  }
  // A response that is returned as it is would be without what `c.header` has set.
  const stream = new RunStream({ deps: c.get('deps'), row, afterSeq, recheck: c.get('recheck'), framing })
  return c.newResponse(bodyOf(stream), 200, headers)
}

/** Not an event of the run: it is not stored and has no id. */
function queuedNotice(position: number): Uint8Array {
  return encoder.encode(`event: queued\ndata: ${JSON.stringify({ position })}\n\n`)
}

/** True for the mark that ends a run's log. */
export function isLast(chunk: EventChunk): boolean {
  if (chunk.kind !== 'mark') return false
  return (JSON.parse(decoder.decode(chunk.bytes)) as { kind: ExitMark['kind'] | 'other' }).kind === 'exit'
}

/** Resolves when the run's last event is durable. */
export async function untilEnded(deps: Deps, ref: RunRef, signal: AbortSignal): Promise<void> {
  const row = await deps.records.find(ref)
  if (!row || isTerminal(row.state)) return
  const last = await deps.records.lastSeq(row)
  const leave = deps.hub.attend(ref)
  try {
    // The last event once more: it may have been the end, between the two looks.
    for await (const chunks of deps.hub.events(row, Math.max(0, last - 1), signal)) if (chunks.some(isLast)) return
  } finally {
    leave()
  }
}
