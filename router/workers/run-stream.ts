/** The events of one run as a stream of chunks, from the object that has them to whoever asked for them. */
import { followLog } from '../hub/follow-log.ts'
import type { Attendance } from '../hub/attendance.ts'
import type { Wakeups } from '../hub/wakeups.ts'
import type { RunRef, Store } from '../ports.ts'
import { readChunks } from '../store/run-events.ts'
import { findRun } from '../store/runs.ts'
import { pageStream } from './chunk-stream.ts'
import { log } from './log.ts'

const PAGE_BYTES = 256 * 1024

/** Everything after `after`, then what follows. It counts as a subscriber until it is let go. */
export function runStream(
  { own, wakeups, attendance }: { own: Store; wakeups: Wakeups; attendance: Attendance },
  ref: RunRef,
  after: number,
): ReadableStream<Uint8Array> {
  const stop = new AbortController()
  const leave = attendance.enter(ref)
  const read = async (run: string, from: number, maxBytes: number) => {
    const chunks = await readChunks(own.db, run, from, maxBytes)
    // Given back, it may go on in another object: who reads looks there.
    if (chunks.length === 0 && !(await findRun(own.db, ref.tenant, ref.run))) stop.abort()
    return chunks
  }
  const pages = followLog({ store: { readChunks: read }, wakeups, pageBytes: PAGE_BYTES }, ref.run, after, stop.signal)
  return pageStream(pages, (error) => {
    if (error !== undefined) log.error({ err: error, run: ref.run }, 'a stream was cut')
    stop.abort()
    void pages.return(undefined)
    leave()
  })
}
