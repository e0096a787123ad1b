/** Why the lines of a run are not all there, for dialects that say so at the end of a stream. */
import { ExitReason } from '../../../shared/marks.ts'
import type { RunRow } from '../../ports.ts'

/** Codes of runs whose CLI did not get to its end: of the others its own result says what became of them. */
const CUT: ReadonlySet<string> = new Set(ExitReason.options)

/** Undefined for a run whose CLI got to its end, however it ended. */
export function cutBecause(ended: RunRow | undefined): string | undefined {
  if (!ended) return 'the run is gone'
  return CUT.has(ended.errorCode ?? '') ? (ended.errorMessage ?? ended.errorCode ?? '') : undefined
}
