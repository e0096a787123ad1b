/** Drives the sending of webhooks in one process: looks every second, and at once when somebody says that there is something. */
import type { Log } from '../ports.ts'
import type { Outbox } from '../webhooks/outbox.ts'

const POLL_MS = 1_000
/** What comes in a burst is looked at once. */
const GATHER_MS = 20
/** A receiver that is just answering may end. */
const GRACE_MS = 1_000

export interface OutboxDriver {
  nudge(): void
  /** Resolves when nothing is under way any more. */
  close(): Promise<void>
}

/** `outbox` has to nudge when it is `freed`. */
export function driveOutbox(outbox: Outbox, now: () => number, log: Log): OutboxDriver {
  let closed = false
  let working: Promise<void> | undefined
  let isNudged = false
  let timer = setTimeout(look, GATHER_MS)

  function look(): void {
    isNudged = false
    working = round().finally(() => {
      working = undefined
      if (!closed) timer = setTimeout(look, isNudged ? GATHER_MS : POLL_MS)
    })
  }

  async function round(): Promise<void> {
    try {
      const due = await outbox.due()
      // Whoever passes may have more to do than it found room for, or than one page.
      if (due !== undefined && due <= now() && !closed && (await outbox.pass()) > 0) isNudged = true
    } catch (error) {
      log.warn({ err: error }, 'webhooks could not be looked after; it is tried again')
    }
  }

  return {
    nudge() {
      if (closed || isNudged) return
      isNudged = true
      if (working !== undefined) return
      clearTimeout(timer)
      timer = setTimeout(look, GATHER_MS)
    },
    async close() {
      closed = true
      clearTimeout(timer)
      await working
      await outbox.close(GRACE_MS)
    },
  }
}
