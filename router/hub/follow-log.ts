/** A cursor over the log of one run: catch up in pages, then follow. Ends with the run's last event. */
import { isLast } from '../engine/stream.ts'
import type { EventChunk } from '../ports.ts'
import type { HubStore } from '../store/hub-store.ts'
import type { Wakeups } from './wakeups.ts'

/** What one subscriber holds in memory at a time. */
const PAGE_BYTES = 64 * 1024

export async function* followLog(
  store: Pick<HubStore, 'readChunks'>,
  wakeups: Wakeups,
  run: string,
  afterSeq: number,
  signal: AbortSignal,
  pageBytes = PAGE_BYTES,
): AsyncGenerator<EventChunk[]> {
  let after = afterSeq
  while (!signal.aborted) {
    // Listening begins before the read, so nothing can be committed between the two unseen.
    const wake = wakeups.listen(run)
    try {
      const chunks = await store.readChunks(run, after, pageBytes)
      const last = chunks.at(-1)
      if (!last) {
        await wake.next(signal)
        continue
      }
      yield chunks
      if (isLast(last)) return
      after = last.first + last.count - 1
    } finally {
      wake.end()
    }
  }
}
