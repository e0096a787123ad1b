/** A client that comes back with `Last-Event-ID` whenever its stream is cut, as an EventSource does. */
import type { EventSourceMessage } from 'eventsource-parser'
import type { Fleet } from './fleet.ts'
import { collectSse } from './sse.ts'

const RETRY_MS = 50

/** Every event of the run after `after`, to its end. Never resolves for a run that does not end. */
export async function follow(fleet: Pick<Fleet, 'call'>, id: string, after = 0): Promise<EventSourceMessage[]> {
  const events: EventSourceMessage[] = []
  for (;;) {
    const last = events.findLast((event) => event.id !== undefined)
    try {
      const response = await fleet.call(`/v1/runs/${id}/events`, { headers: { 'last-event-id': last?.id ?? String(after) } })
      if (response.status === 204) return events
      if (response.status === 200) await collectSse(response, events)
    } catch {
      // The host is away, or its connection was cut: what has been read so far stays.
    }
    if (events.at(-1)?.event === 'done') return events
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
  }
}
