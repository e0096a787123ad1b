import { connect, type Socket } from 'node:net'
import { createParser } from 'eventsource-parser'
import { afterEach, describe, expect, it } from 'vitest'
import type { Log } from '../router/ports.ts'
import type { Fleet } from './kit/fleet.ts'
import { quiet, startNodeFleet } from './kit/host-node.ts'
import { resultAt } from './kit/turns.ts'
import { until } from './kit/wait.ts'

const MiB = 1024 * 1024
const LINES = 16_384
const STALLED = 8
const BLOCKED_MS = 5_000
const line = (i: number) => Buffer.from(`{"n":${i},"pad":"${'x'.repeat(4_096 - 20)}"}`)

let fleet: Fleet | undefined
const sockets: Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await fleet?.close()
  fleet = undefined
})

/** A CLI that prints 64 MiB when the test says so, and does not wait for anybody. */
async function startPrinting(f: Fleet, gates: (() => void)[]) {
  const response = await f.run({ prompt: 'print' }, { prefer: 'respond-async' })
  const { id } = (await response.json()) as { id: string }
  return { id, go: await until('the run to start', () => gates.shift()) }
}

/** A client that asks for the stream, reads its head and then nothing any more. */
async function stalled({ url, token }: Fleet, id: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  sockets.push(socket)
  socket.on('error', () => undefined)
  socket.write(`GET /v1/runs/${id}/events HTTP/1.1\r\nhost: ${hostname}:${port}\r\nauthorization: Bearer ${token}\r\n\r\n`)
  await new Promise<void>((resolve) => socket.once('data', () => resolve()))
  socket.pause()
  return socket
}

/** What a connection still holds, until it is closed. */
async function rest(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.resume()
  await until('the connection to be closed', () => socket.destroyed || socket.readableEnded)
  return Buffer.concat(chunks)
}

/** Reads to the end and keeps nothing but numbers. */
async function readAll(f: Fleet, id: string) {
  const response = await f.call(`/v1/runs/${id}/events`)
  let events = 0
  let gaps = 0
  const parser = createParser({ onEvent: (event) => void (Number(event.id) === ++events || gaps++) })
  const decoder = new TextDecoder()
  let longestWaitMs = 0
  let last = performance.now()
  for await (const chunk of response.body!) {
    longestWaitMs = Math.max(longestWaitMs, performance.now() - last)
    parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }))
    last = performance.now()
  }
  return { events, gaps, longestWaitMs }
}

/** Reads a stream to its end, and sees how large the process gets meanwhile. */
async function measured(f: Fleet, { id, go }: { id: string; go: () => void }) {
  const reading = readAll(f, id)
  let peak = 0
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 10)
  go()
  const read = await reading
  clearInterval(watch)
  return { ...read, peak }
}

describe('a subscriber that does not read', () => {
  it('costs a bounded amount of memory, does not slow its neighbour, and is let go', { timeout: 180_000 }, async () => {
    const released: unknown[] = []
    const log: Log = { ...quiet, info: (fields, message) => void (message.includes('does not read') && released.push(fields)) }
    fleet = await startNodeFleet({ log, blockedMs: BLOCKED_MS })
    const gates: (() => void)[] = []
    await fleet.runner({
      turn: async (sink) => {
        await new Promise<void>((resolve) => gates.push(resolve))
        let seq = 0
        for (let i = 0; i < LINES; i++) {
          seq = sink.line(line(i))
          if (i % 64 === 0) await new Promise((resolve) => setImmediate(resolve))
        }
        return { result: resultAt(seq) }
      },
    })
    const alone = await measured(fleet, await startPrinting(fleet, gates))
    const run = await startPrinting(fleet, gates)
    const slow = await Promise.all(Array.from({ length: STALLED }, () => stalled(fleet!, run.id)))
    const beside = await measured(fleet, run)

    expect(alone.events).toBe(LINES + 2)
    expect(beside).toMatchObject({ events: alone.events, gaps: 0 })
    // Eight cursors, not eight copies of 64 MiB: 0.2 MiB each were measured, beside what the kernel holds.
    expect((beside.peak - alone.peak) / MiB).toBeLessThan(32)
    expect(beside.longestWaitMs).toBeLessThan(BLOCKED_MS)

    await until('the stalled ones to be let go', () => released.length === STALLED, 4 * BLOCKED_MS)
    expect(released).toEqual(slow.map(() => ({ run: run.id })))
    const got = await rest(slow[0]!)
    expect(got.length).toBeLessThan(16 * MiB)
    expect(got.includes('event: done')).toBe(false)
    expect(got.includes('Error')).toBe(false)
  })
})
