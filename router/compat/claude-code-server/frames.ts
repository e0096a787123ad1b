/**
 * A run as the server-sent events of claude-code-server: unnamed ones with the CLI's lines, `error` for what it said
 * beside them, which ends nothing, and `done` with its exit code at the end.
 *
 * Ids and comments are ours; clients of the original look at `data:` and `event:` only.
 */
import type { GapMark, RawMark, StderrMark } from '../../../shared/marks.ts'
import { SSE_COMMENT, SSE_RETRY, sseEvent, sseMessages } from '../../../shared/sse.ts'
import type { Framing } from '../../engine/stream.ts'
import type { Records, RunRow } from '../../ports.ts'

type Told = StderrMark | GapMark | RawMark | { readonly kind: 'started' }
const encoder = new TextEncoder()

export function framing(records: Records): Framing {
  return {
    head: SSE_RETRY,
    lines: (first, bytes) => sseMessages(first, bytes, {}),
    mark(seq, _kind, json) {
      const mark = JSON.parse(json) as Told
      if (mark.kind === 'raw') return rawLine(seq, mark)
      if (mark.kind === 'stderr') return complaint(seq, mark.text)
      return mark.kind === 'gap' ? complaint(seq, missing(mark)) : undefined
    },
    async end(seq, row) {
      const [code, why] = row ? await exitOf(records, row, seq) : [null, 'the run is gone']
      const done = sseEvent(seq, 'done', JSON.stringify({ code }))
      return why === undefined ? done : joined(complaint(seq, why), done)
    },
    comment: () => SSE_COMMENT,
  }
}

/** Its exit code, and what it ended of where the CLI did not say so itself. A process that was killed has no code. */
async function exitOf(records: Records, row: RunRow, seq: number): Promise<[number | null, string | undefined]> {
  const failed = row.state !== 'succeeded'
  const why = failed && row.resultSeq === null ? `${row.errorCode ?? row.state}: ${row.errorMessage ?? ''}` : undefined
  const mark = await records.event(row, seq)
  const code = mark ? (JSON.parse(new TextDecoder().decode(mark)) as { code?: unknown }).code : undefined
  if (typeof code !== 'number') return [failed ? null : 0, why]
  // A run that we count as failed is none that its client may take for a success.
  return [failed && code === 0 ? 1 : code, why]
}

const complaint = (seq: number, error: string) => sseEvent(seq, 'error', JSON.stringify({ error }))

function missing({ reason, from, to, bytes }: GapMark): string {
  if (reason === 'line_too_long') return `a line of ${bytes ?? 'too many'} bytes was left out`
  return `events are missing (${reason}): ${from ?? '?'} to ${to ?? 'the end'}`
}

/** A line break within it goes on in another `data` field, as the format has it (WHATWG HTML §9.2.6). */
function rawLine(seq: number, { encoding, data }: RawMark): Uint8Array {
  const text = encoding === 'utf8' ? data : new TextDecoder().decode(Uint8Array.from(atob(data), (char) => char.charCodeAt(0)))
  const fields = text.split(/\r\n|\r|\n/).map((line) => `data: ${line}\n`)
  return encoder.encode(`id: ${seq}\n${fields.join('')}\n`)
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}
