/** A stranger's client, as browsers and the npm package `eventsource` do it, behind a proxy that cuts it every second. */
import { createParser } from 'eventsource-parser'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { resultAt, startFleet, type Fleet } from '../kit/fleet.ts'
import { startProxy, type Proxy } from '../kit/proxy.ts'

const LINES = 300
const EVERY_MS = 20
const CUT_EVERY_MS = 1_000

type Received = { id: string; event: string; data: string }

/** WHATWG HTML §9.2: repeats its URL with the last id it has seen, waits as long as `retry` says, stops at 204. */
async function eventSource(url: string, token: string, received: (event: Received) => 'close' | void): Promise<number> {
  let lastEventId = ''
  let retryMs = 3_000
  let closed = false
  for (let connections = 1; ; connections++) {
    const parser = createParser({
      onRetry: (ms) => (retryMs = ms),
      onEvent: ({ id, event = 'message', data }) => {
        lastEventId = id ?? lastEventId
        closed ||= received({ id: lastEventId, event, data }) === 'close'
      },
    })
    try {
      const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream', ...(lastEventId && { 'last-event-id': lastEventId }) }
      const response = await fetch(url, { headers })
      if (response.status === 204) return connections
      const decoder = new TextDecoder()
      for await (const chunk of response.body!) parser.feed(decoder.decode(chunk, { stream: true }))
    } catch {
      // A network error: it reconnects.
    }
    if (closed) return connections
    await new Promise((resolve) => setTimeout(resolve, retryMs))
  }
}

describe("a stranger's client that is cut every second", () => {
  let fleet: Fleet
  let proxy: Proxy
  let cutter: NodeJS.Timeout

  beforeAll(async () => {
    fleet = await startFleet()
    proxy = await startProxy(Number(new URL(fleet.router.url).port))
    await fleet.runner({
      turn: async (sink) => {
        for (let n = 1; n < LINES; n++) {
          sink.line(Buffer.from(JSON.stringify({ type: 'stream_event', n, text: '漢字'.repeat(n) })))
          await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
        }
        return { result: resultAt(sink.line(Buffer.from(`{"type":"result","n":${LINES}}`))) }
      },
    })
    cutter = setInterval(() => proxy.cut(), CUT_EVERY_MS)
  })
  afterAll(async () => {
    clearInterval(cutter)
    await proxy.close()
    await fleet.close()
  })

  it('gets ids 1 to n without a gap or a repeat, and every line', async () => {
    const started = await fleet.run({ prompt: 'go' }, { prefer: 'respond-async' })
    const { id } = (await started.json()) as { id: string }
    const all: Received[] = []
    const connections = await eventSource(`http://127.0.0.1:${proxy.port}/v1/runs/${id}/events`, fleet.token, (event) => {
      all.push(event)
      return event.event === 'done' ? 'close' : undefined
    })
    expect(all.map((event) => Number(event.id))).toEqual(all.map((_, i) => i + 1))
    const lines = all.filter(({ event }) => event === 'message').map(({ data }) => (JSON.parse(data) as { n: number }).n)
    expect(lines).toEqual(Array.from({ length: LINES }, (_, i) => i + 1))
    expect(connections).toBeGreaterThan(3)
    // One that comes again after the end is told to stop (204).
    const again = await fleet.call(`/v1/runs/${id}/events`, { headers: { 'last-event-id': all.at(-1)!.id } })
    expect(again.status).toBe(204)
  })
})
