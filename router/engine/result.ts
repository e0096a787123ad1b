/** What the CLI said at the end of a run: its result line, which lives in the event log for as long as the run's events do. */
import type { Records, RunRow } from '../ports.ts'

const decoder = new TextDecoder()

/** The line with its end, as bytes; undefined while there is none, or when it is no longer kept. */
export async function resultBytes(records: Pick<Records, 'event'>, row: RunRow): Promise<Uint8Array | undefined> {
  return row.resultSeq === null || row.prunedAt !== null ? undefined : records.event(row, row.resultSeq)
}

/** The line as the CLI wrote it, without its end. */
export async function resultLine(records: Records, row: RunRow): Promise<string | undefined> {
  const line = await resultBytes(records, row)
  return line && decoder.decode(line).replace(/\n$/, '')
}

/** The same as an object. A runner may name any line as its result; one that is no object is none. */
export async function resultOf(records: Records, row: RunRow): Promise<Record<string, unknown> | undefined> {
  return resultIn(await resultBytes(records, row))
}

/** See `resultOf`. */
export function resultIn(line: Uint8Array | undefined): Record<string, unknown> | undefined {
  const parsed = line && parse(decoder.decode(line))
  return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Record<string, unknown>) : undefined
}

/** The text of the answer, or the object that `json_schema` asked for; null where there is neither. */
export function answerOf(result: Readonly<Record<string, unknown>> | undefined): unknown {
  if (!result) return null
  // A structured answer is there beside its text when the run asked for one.
  const { structured_output: structured, result: text } = result
  return structured ?? text ?? null
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}
