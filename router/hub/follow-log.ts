/** A cursor over the log of one run: catch up in pages, then follow. Ends with the run's last event. */
import { isLast } from '../engine/stream.ts'
import type { Cursor, EventChunk, Page } from '../ports.ts'
import type { HubStore } from '../store/hub-store.ts'
import type { Listener, Wakeups } from './wakeups.ts'

/** What one subscriber holds for himself at a time. */
const PAGE_BYTES = 64 * 1024

type Source = { readonly store: Pick<HubStore, 'readChunks'>; readonly wakeups: Wakeups; readonly pageBytes?: number }

export class LogCursor implements Cursor {
  readonly #source: Source
  readonly #run: string
  readonly #news: Listener
  #after: number
  /** Behind a page of the log there may be another one; behind what was handed over, a wake-up says so. */
  #isBehind = true
  #isOver = false

  /** `wake` is called whenever there may be something new. */
  constructor(source: Source, run: string, afterSeq: number, wake: () => void) {
    this.#source = source
    this.#run = run
    this.#after = afterSeq
    // Listening begins before the first read, so nothing can be committed between the two unseen.
    this.#news = source.wakeups.listen(run, wake)
  }

  next(): Page | undefined | 'end' | Promise<Page | undefined | 'end'> {
    const known = this.#known()
    return known === 'unread' ? this.#read() : known
  }

  close(): void {
    this.#isOver = true
    this.#news.end()
  }

  /** What can be said without the log. */
  #known(): Page | undefined | 'end' | 'unread' {
    if (this.#isOver || this.#news.isOver) return 'end'
    if (!this.#isBehind && !this.#news.isWoken) return undefined
    const handed = this.#news.take(this.#after, this.#source.pageBytes ?? PAGE_BYTES)
    this.#isBehind = handed.length === 0
    return this.#isBehind ? 'unread' : this.#passed(handed)
  }

  async #read(): Promise<Page | undefined | 'end'> {
    const { store, pageBytes = PAGE_BYTES } = this.#source
    for (;;) {
      const chunks = await store.readChunks(this.#run, this.#after, pageBytes)
      if (chunks.length > 0) return this.#passed(chunks)
      this.#isBehind = false
      // Nothing yet, or it was told meanwhile that there is more.
      const known = this.#known()
      if (known !== 'unread') return known
    }
  }

  #passed(page: readonly EventChunk[]): Page {
    const last = page.at(-1)!
    this.#after = last.first + last.count - 1
    this.#isOver = isLast(last)
    return page
  }
}

type Pages = AsyncGenerator<Page, void, undefined>

/** The pages of a cursor, one after the other. */
export async function* followLog(source: Source, run: string, afterSeq: number, signal: AbortSignal): Pages {
  let wake = () => undefined as void
  const cursor = new LogCursor(source, run, afterSeq, () => wake())
  const leave = () => {
    cursor.close()
    wake()
  }
  signal.addEventListener('abort', leave)
  if (signal.aborted) leave()
  try {
    for (;;) {
      const news = new Promise<void>((resolve) => (wake = resolve))
      const page = await cursor.next()
      if (page === 'end') return
      if (page) yield page
      else await news
    }
  } finally {
    signal.removeEventListener('abort', leave)
    leave()
  }
}
