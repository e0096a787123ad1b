/** A stranger's client, the npm package `eventsource`, behind a proxy that cuts it every second. */
import { EventSource } from 'eventsource'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Fleet } from '../kit/fleet.ts'
import { startNodeFleet } from '../kit/host-node.ts'
import { startProxy, type Proxy } from '../kit/proxy.ts'
import { resultAt } from '../kit/turns.ts'

const LINES = 300
const EVERY_MS = 20
const CUT_EVERY_MS = 1_000

type Received = { id: string; event: string; data: string }

/** Resolves with the number of connections when `received` says that it has seen the end. */
function follow(url: string, token: string, received: (event: Received) => 'close' | void): Promise<number> {
  let connections = 0
  const source = new EventSource(url, {
    fetch: (input, init) => {
      connections++
      return fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } })
    },
  })
  return new Promise((resolve) => {
    for (const event of ['started', 'message', 'done']) {
      source.addEventListener(event, ({ lastEventId: id, data }) => {
        if (received({ id, event, data: String(data) }) !== 'close') return
        source.close()
        resolve(connections)
      })
    }
  })
}

describe("a stranger's client that is cut every second", () => {
  let fleet: Fleet
  let proxy: Proxy
  let cutter: NodeJS.Timeout

  beforeAll(async () => {
    fleet = await startNodeFleet()
    proxy = await startProxy(Number(new URL(fleet.url).port))
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
    const connections = await follow(`http://127.0.0.1:${proxy.port}/v1/runs/${id}/events`, fleet.token, (event) => {
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
