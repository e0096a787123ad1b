/** A cursor over the log of one run: catch up in pages, then follow. Ends with the run's last event. */
import { isLast } from '../engine/stream.ts'
import type { EventChunk } from '../ports.ts'
import type { HubStore } from '../store/hub-store.ts'
import type { Wakeups } from './wakeups.ts'

/** What one subscriber holds for himself at a time. */
const PAGE_BYTES = 64 * 1024

export async function* followLog(
  store: Pick<HubStore, 'readChunks'>,
  wakeups: Wakeups,
  run: string,
  afterSeq: number,
  signal: AbortSignal,
  pageBytes = PAGE_BYTES,
): AsyncGenerator<EventChunk[]> {
  // Listening begins before the first read, so nothing can be committed between the two unseen.
  const news = wakeups.listen(run, signal)
  let after = afterSeq
  try {
    while (!news.isOver) {
      const handed = news.take(after, pageBytes)
      const chunks = handed.length > 0 ? handed : await store.readChunks(run, after, pageBytes)
      const last = chunks.at(-1)
      // Behind a page of the log there may be another one; behind what was handed over, a wake-up says so.
      const isBehind = last !== undefined && handed.length === 0
      if (last) {
        yield chunks
        if (isLast(last)) return
        after = last.first + last.count - 1
      }
      if (!isBehind) await news.next()
    }
  } finally {
    news.end()
  }
}
