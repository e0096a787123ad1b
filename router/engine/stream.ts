/**
 * A run as a stream of server-sent events: a cursor over the log, framed on the way out.
 *
 * It is pulled, so a slow client holds one page and never the run. The last event is `done`; a stream that ends
 * without it was cut and can be resumed with `Last-Event-ID`.
 */
import type { Context } from 'hono'
import type { ExitMark } from '../../shared/marks.ts'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../shared/sse.ts'
import type { Recheck } from '../guard/admission.ts'
import { watchVisit } from '../guard/watch.ts'
import type { AppEnv, Deps, EventChunk, RunRef, RunRow } from '../ports.ts'
import { isTerminal } from '../core/run-state.ts'
import { runSummary } from './run-view.ts'

const COMMENT_EVERY_MS = 15_000
/** How often a waiting run's place in the line is looked at. */
const POSITION_EVERY_MS = 1_000
/** A client that takes nothing for so long is let go; it can resume. */
const BLOCKED_MS = 30_000
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

const native = (row: RunRow): Framing => ({
  head: SSE_RETRY,
  lines: (first, bytes) => sseMessages(first, bytes),
  mark: sseEvent,
  end: (seq, ended) => sseEvent(seq, 'done', JSON.stringify(ended ? runSummary(ended) : { id: row.id })),
  queued: queuedNotice,
  comment: () => SSE_COMMENT,
})

/** The events of a run as its row was a moment ago, after `afterSeq`, for as long as whoever asked is welcome. */
export function streamTo(c: Context<AppEnv>, row: RunRow, afterSeq: number, framing?: Framing): Response {
  const stream = eventStream(c.get('deps'), row, afterSeq, c.get('recheck'), framing)
  // A response that is returned as it is would be without what `c.header` has set.
  return c.newResponse(stream.body, stream)
}

function eventStream(deps: Deps, row: RunRow, afterSeq: number, recheck: Recheck, framing: Framing = native(row)): Response {
  const ref: RunRef = { run: row.id, tenant: row.tenant }
  const stop = new AbortController()
  const leave = deps.hub.attend(ref)
  const chunks = deps.hub.events(row, afterSeq, stop.signal)[Symbol.asyncIterator]()
  let next: Promise<IteratorResult<EventChunk[]>> | undefined
  let waits = row.state === 'queued' || row.state === 'offered'
  const commentEveryMs = deps.settings.commentEveryMs ?? COMMENT_EVERY_MS
  let spokenAt = deps.platform.now()
  let place: number | undefined
  let blocked: ReturnType<typeof setTimeout> | undefined
  let ended = false
  let visit: { stop(): void } | undefined
  const end = () => {
    ended = true
    clearTimeout(blocked)
    visit?.stop()
    stop.abort()
    // A generator that waits at its yield hears of no signal.
    void chunks.return?.()
    leave()
  }
  const nextPage = async (): Promise<Uint8Array[] | 'end'> => {
    for (;;) {
      next ??= chunks.next()
      const position = waits ? await deps.line.position(row) : undefined
      waits = position !== undefined
      if (position !== undefined && position !== place) {
        place = position
        return framing.queued ? [framing.queued(position)] : []
      }
      const page = await orTimeout(next, waits ? Math.min(POSITION_EVERY_MS, commentEveryMs) : commentEveryMs)
      if (page === undefined && waits && deps.platform.now() - spokenAt < commentEveryMs) continue
      if (page === undefined) return [framing.comment(deps.platform.now())]
      waits = false
      next = undefined
      if (page.done) return 'end'
      const pieces = await Promise.all(page.value.map((chunk) => frame(deps, row, chunk, framing)))
      return pieces.filter((piece) => piece !== undefined)
    }
  }
  /** A pull that brings nothing is not repeated. */
  const nextPieces = async () => {
    for (;;) {
      const page = await nextPage()
      if (page.length > 0 || stop.signal.aborted) return page
    }
  }
  const body = new ReadableStream<Uint8Array>(
    {
      start(out) {
        out.enqueue(framing.head)
        visit = watchVisit(recheck, () => {
          end()
          deps.log.info({ run: ref.run }, 'a subscriber whose token is no longer good was let go')
          // What waits to be read by a client that does not read would keep its connection open.
          if ((out.desiredSize ?? 0) > 0) out.close()
          else out.error(new Error('the token is no longer good'))
        })
      },
      async pull(out) {
        clearTimeout(blocked)
        try {
          const page = await nextPieces()
          if (ended) return
          if (page === 'end') {
            end()
            return out.close()
          }
          spokenAt = deps.platform.now()
          for (const bytes of page) out.enqueue(bytes)
        } catch (error) {
          end()
          deps.log.error({ err: error, run: ref.run }, 'a stream was cut')
          throw error
        }
        blocked = setTimeout(() => {
          end()
          deps.log.info({ run: ref.run }, 'a subscriber that does not read was let go')
          out.error(new Error('the client does not read'))
        }, deps.settings.blockedMs ?? BLOCKED_MS)
      },
      cancel: end,
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
      ...framing.headers,
    },
  })
}

/** Not an event of the run: it is not stored and has no id. */
function queuedNotice(position: number): Uint8Array {
  return encoder.encode(`event: queued\ndata: ${JSON.stringify({ position })}\n\n`)
}

async function frame(deps: Deps, row: RunRow, chunk: EventChunk, framing: Framing): Promise<Uint8Array | undefined> {
  if (chunk.kind === 'ev') return framing.lines(chunk.first, chunk.bytes)
  const text = decoder.decode(chunk.bytes)
  const { kind } = JSON.parse(text) as { kind: string }
  return kind === 'exit' ? framing.end(chunk.first, await deps.records.latest(row)) : framing.mark(chunk.first, kind, text)
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
