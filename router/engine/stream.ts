/**
 * A run as a stream of server-sent events: a cursor over the log, framed on the way out.
 *
 * It is pulled, so a slow client holds one page and never the run. The last event is `done`; a stream that ends
 * without it was cut and can be resumed with `Last-Event-ID`.
 */
import type { ExitMark } from '../../shared/marks.ts'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../shared/sse.ts'
import type { Deps, EventChunk, RunRef } from '../ports.ts'
import { isTerminal } from '../core/run-state.ts'
import { logEnd } from '../store/run-events.ts'
import { findRun } from '../store/runs.ts'
import { runSummary } from './run-view.ts'

const COMMENT_EVERY_MS = 15_000
const decoder = new TextDecoder()

export function eventStream(deps: Deps, ref: RunRef, afterSeq: number): Response {
  const stop = new AbortController()
  const chunks = deps.hub.events(ref, afterSeq, stop.signal)[Symbol.asyncIterator]()
  let next: Promise<IteratorResult<EventChunk[]>> | undefined
  const body = new ReadableStream<Uint8Array>(
    {
      start: (out) => out.enqueue(SSE_RETRY),
      async pull(out) {
        next ??= chunks.next()
        const page = await orTimeout(next, COMMENT_EVERY_MS)
        if (page === undefined) return out.enqueue(SSE_COMMENT)
        next = undefined
        if (page.done) return out.close()
        for (const chunk of page.value) out.enqueue(await frame(deps, ref, chunk))
      },
      cancel: () => stop.abort(),
    },
    // Nothing is read ahead of the client.
    { highWaterMark: 1 },
  )
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      'x-run-id': ref.run,
    },
  })
}

async function frame(deps: Deps, ref: RunRef, chunk: EventChunk): Promise<Uint8Array> {
  if (chunk.kind === 'ev') return sseMessages(chunk.first, chunk.bytes)
  const text = decoder.decode(chunk.bytes)
  const { kind } = JSON.parse(text) as { kind: string }
  if (kind !== 'exit') return sseEvent(chunk.first, kind, text)
  const row = await findRun(deps.store.db, ref.tenant, ref.run)
  return sseEvent(chunk.first, 'done', JSON.stringify(row ? runSummary(row) : { id: ref.run }))
}

/** True for the mark that ends a run's log. */
export function isLast(chunk: EventChunk): boolean {
  if (chunk.kind !== 'mark') return false
  return (JSON.parse(decoder.decode(chunk.bytes)) as { kind: ExitMark['kind'] | 'other' }).kind === 'exit'
}

/** Resolves when the run's last event is durable. */
export async function untilEnded(deps: Deps, ref: RunRef, signal: AbortSignal): Promise<void> {
  // The end of the log first, the row second: an ending between the two is still ahead of the cursor.
  const end = await logEnd(deps.store.db, ref.run)
  const row = await findRun(deps.store.db, ref.tenant, ref.run)
  if (!row || isTerminal(row.state)) return
  for await (const chunks of deps.hub.events(ref, end.seq, signal)) if (chunks.some(isLast)) return
}

async function orTimeout<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
