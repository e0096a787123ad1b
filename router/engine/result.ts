/** What the CLI said at the end of a run: its result line, which lives in the event log for as long as the run's events do. */
import type { Records, RunRow } from '../ports.ts'

const decoder = new TextDecoder()

/** The line as the CLI wrote it, without its end; undefined while there is none, or when it is no longer kept. */
export async function resultLine(records: Records, row: RunRow): Promise<string | undefined> {
  if (row.resultSeq === null || row.prunedAt !== null) return undefined
  const line = await records.event(row, row.resultSeq)
  return line && decoder.decode(line).replace(/\n$/, '')
}

/** The same as an object. A runner may name any line as its result; one that is no object is none. */
export async function resultOf(records: Records, row: RunRow): Promise<Record<string, unknown> | undefined> {
  const parsed = parse((await resultLine(records, row)) ?? '')
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
