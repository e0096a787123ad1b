/**
 * Streams of ccs: every line of the CLI as `message`, then `done` or `error`. A stream is a cursor over the log of its run,
 * so one that was cut goes on where it was, and its name is that of the run.
 */
import type { Context } from 'hono'
import { Fault } from '../../../shared/faults.ts'
import { ExitMark } from '../../../shared/marks.ts'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../../shared/sse.ts'
import { isTerminal } from '../../core/run-state.ts'
import { streamTo, type Framing } from '../../engine/stream.ts'
import type { AppEnv, Deps, RunRow } from '../../ports.ts'
import { whyNot } from './outcome.ts'
import { textSoFar } from './stream-text.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** 16 hex digits, the last of the run's: its first ones are the time, which stands still within a request on Workers. */
export const streamId = (run: string): string => `stream_${run.slice(-16)}`
/** What the id of its run ends with; undefined for what names no stream. */
export const endOf = (name: string): string | undefined => /^stream_([0-9a-f]{16})$/.exec(name)?.[1]

/** After which event a client wants to go on; undefined: it has seen none. Throws `event_id` for what is no id. */
export function seenBy(c: Context<AppEnv>, query: string | undefined): number | undefined {
  // A reconnecting EventSource repeats its URL and adds the header, so the header is the newer word.
  const given = c.req.header('last-event-id') ?? query
  if (given === undefined || given === '') return undefined
  if (!/^\d{1,15}$/.test(given)) throw new Fault('event_id', `${JSON.stringify(given.slice(0, 64))} is not an event id`)
  return Number(given)
}

/** From the first event. An id in front of it, so that a client that is cut before any event comes back and does not begin anew. */
export function wholeStream(c: Context<AppEnv>, row: RunRow): Response {
  return stream(c, row, 0, [SSE_RETRY, encoder.encode('id: 0\n\n')])
}

/** What comes after this event, and nothing that was there before. 204 when there is nothing more. */
export async function restOfStream(c: Context<AppEnv>, row: RunRow, after: number): Promise<Response> {
  await mustHaveHappened(c, row, after)
  if (isTerminal(row.state) && after >= row.lastSeq) return c.body(null, 204)
  return stream(c, row, after, [SSE_RETRY])
}

/** The text up to `after`, or up to now, and then the events behind it. */
export async function resumedStream(c: Context<AppEnv>, row: RunRow, after: number | undefined): Promise<Response> {
  const deps = c.get('deps')
  if (after !== undefined) await mustHaveHappened(c, row, after)
  const from = after ?? (await deps.records.lastSeq(row))
  if (isTerminal(row.state) && from >= row.lastSeq) return c.body(null, 204)
  const { content } = await textSoFar(deps, row, from)
  return stream(c, row, from, [SSE_RETRY, sseEvent(from, 'message', JSON.stringify({ type: 'resumed', ...content }))])
}

async function mustHaveHappened(c: Context<AppEnv>, row: RunRow, seq: number): Promise<void> {
  const last = isTerminal(row.state) ? row.lastSeq : await c.get('deps').records.lastSeq(row)
  if (seq > last) throw new Fault('event_id', `event ${seq} has not happened; the newest is ${last}`)
}

function stream(c: Context<AppEnv>, row: RunRow, after: number, head: readonly Uint8Array[]): Response {
  // The body of an answer to HEAD is dropped unread, and a stream that nobody reads or cancels would stay.
  if (c.req.raw.method === 'HEAD') return c.body(null, 200, { 'content-type': 'text/event-stream; charset=utf-8' })
  return streamTo(c, row, after, framing(c.get('deps'), row, joined(head)))
}

function framing(deps: Deps, row: RunRow, head: Uint8Array): Framing {
  return {
    head,
    headers: { 'x-session-id': row.session, 'x-stream-id': streamId(row.id), 'x-should-retry': 'false' },
    lines: (first, bytes) => sseMessages(first, bytes),
    // What is missing is said under a name of its own; the rest of ours means nothing there.
    mark: (seq, kind, json) => (kind === 'gap' ? sseEvent(seq, kind, json) : undefined),
    end: (seq, ended) => lastEvent(deps, seq, row, ended),
    comment: () => SSE_COMMENT,
  }
}

async function lastEvent(deps: Deps, seq: number, { session }: RunRow, row: RunRow | undefined): Promise<Uint8Array> {
  if (!row) return sseEvent(seq, 'error', JSON.stringify({ error: 'Stream not found', details: 'its run is gone' }))
  if (row.state !== 'succeeded') return sseEvent(seq, 'error', JSON.stringify(await failureOf(deps, row)))
  return sseEvent(seq, 'done', JSON.stringify({ session_id: session, duration_ms: row.durationMs, cost_usd: row.costUsd }))
}

async function failureOf({ records }: Deps, row: RunRow): Promise<{ error: string; details: string }> {
  const details = row.errorMessage ?? row.errorCode ?? row.state
  if (row.errorCode === 'timeout') return { error: `Stream timeout (${row.timeoutS}s)`, details }
  if (row.errorCode !== 'crashed') return { error: whyNot(row), details: row.errorCode ?? row.state }
  const mark = await records.event(row, row.lastSeq)
  const exit = mark === undefined ? undefined : ExitMark.safeParse(JSON.parse(decoder.decode(mark)))
  return { error: exit?.success ? `Process exited with code ${exit.data.code}` : whyNot(row), details }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}
