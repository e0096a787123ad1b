import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { nowhere, type BodySource, type Sink } from '../engine/body-source.ts'
import { sendStream } from './send-stream.ts'

let server: Server
let body: BodySource
let beforeAnswer: () => Promise<void>
const port = () => (server.address() as AddressInfo).port
const bytes = (text: string) => new TextEncoder().encode(text)

/** A body that is written when `open` is called, and says what became of it. */
class Written implements BodySource {
  readonly #write: (sink: Sink) => void
  #end: () => void = () => undefined
  /** When nobody reads any more. */
  readonly over = new Promise<void>((resolve) => (this.#end = resolve))
  #open: (sink: Sink) => void = () => undefined
  readonly opened = new Promise<Sink>((resolve) => (this.#open = resolve))
  sink: Sink | undefined
  timesGone = 0

  constructor(write: (sink: Sink) => void) {
    this.#write = write
  }

  open(sink: Sink): void {
    this.sink = sink
    this.#write(sink)
    this.#open(sink)
  }

  drained(): void {
    if (this.sink) this.#write(this.sink)
  }

  gone(): void {
    this.timesGone++
    this.#end()
  }
}

beforeEach(async () => {
  beforeAnswer = () => Promise.resolve()
  server = createServer((_request, outgoing) => {
    const before = beforeAnswer()
    const given = body
    const head = new Response(null, { headers: { 'content-type': 'text/event-stream', 'x-run-id': 'r' } })
    void before.then(() => sendStream(given, head, outgoing))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(resolve))
})

/** All that a connection says until it is closed. */
async function answers(requests: string): Promise<string> {
  const socket = connect(port(), '127.0.0.1')
  socket.write(requests)
  let said = ''
  for await (const chunk of socket) said += (chunk as Buffer).toString('latin1')
  return said
}

describe('a streamed answer', () => {
  it('arrives with its head and as it was given', async () => {
    const pieces = Array.from({ length: 50 }, (_, i) => bytes(`${i},`.repeat(10_000)))
    const left = [...pieces]
    let waits = 0
    body = new Written((sink) => {
      while (left.length > 0) if (!sink.write(left.shift()!)) return void waits++
      sink.end()
    })
    const expected = pieces.map((p) => Buffer.from(p).toString()).join('')
    const response = await fetch(`http://127.0.0.1:${port()}/`)
    expect(response.headers.get('x-run-id')).toBe('r')
    expect(await response.text()).toBe(expected)
    expect(waits).toBeGreaterThan(1)
  })

  it('is the same whatever the size of its pieces', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(10_000), { maxLength: 30 }), async (sizes) => {
        const pieces = sizes.map((size, i) => new Uint8Array(size).fill(i))
        const left = [...pieces]
        body = new Written((sink) => {
          while (left.length > 0) if (!sink.write(left.shift()!)) return
          sink.end()
        })
        const response = await fetch(`http://127.0.0.1:${port()}/`)
        expect(Buffer.compare(Buffer.from(await response.arrayBuffer()), Buffer.concat(pieces))).toBe(0)
      }),
      { numRuns: 50 },
    )
  })

  it('ends with its connection for a client that knows no chunks', async () => {
    body = new Written((sink) => {
      sink.write(bytes('data: 1\n\n'))
      sink.end()
    })
    expect(await answers('GET / HTTP/1.0\r\n\r\n')).toMatch(/\r\n\r\ndata: 1\n\n$/)
  })

  it('comes behind the one that was asked for before on the same connection', async () => {
    const bodies = ['first', 'second'].map((word) => new Written((sink) => void sink.write(bytes(word))))
    const left = [...bodies]
    beforeAnswer = () => {
      body = left.shift()!
      return Promise.resolve()
    }
    const answer = answers('GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    const sinks = await Promise.all(bodies.map(({ opened }) => opened))
    for (const sink of sinks.toReversed()) sink.end()
    expect((await answer).match(/\w+\r\n0\r\n\r\n/g)).toEqual(['first\r\n0\r\n\r\n', 'second\r\n0\r\n\r\n'])
  })

  it('is cut without a word when its body fails', async () => {
    const failing = new Written((sink) => void sink.write(bytes('data: 1\n\n')))
    body = failing
    const socket = connect(port(), '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    let seen = ''
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      seen += chunk.toString()
      if (seen.includes('data: 1')) failing.sink?.cut()
    })
    await new Promise<void>((resolve) => socket.once('close', () => resolve()))
    expect(seen).toContain('data: 1')
    expect(seen).not.toContain('0\r\n\r\n')
  })

  it('is not produced any more when the client has gone', async () => {
    const read = new Written((sink) => void sink.write(bytes('data: 1\n\n')))
    body = read
    const socket = connect(port(), '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    socket.once('data', () => socket.destroy())
    await expect(read.over).resolves.toBeUndefined()
  })

  it('listens once for room, however much is written to a client that takes nothing', async () => {
    let peer: Socket | undefined
    server.on('connection', (socket: Socket) => void (peer = socket))
    const given = new Written(() => undefined)
    body = given
    const socket = connect(port(), '127.0.0.1').pause()
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    const sink = await given.opened
    const ofNode = peer!.listenerCount('drain')
    while (sink.write(new Uint8Array(3_000))) await nextTurn()
    for (let i = 0; i < 20; i++) sink.write(new Uint8Array(1_000))
    expect(peer!.listenerCount('drain')).toBe(ofNode + 1)
    const room = new Promise<void>((resolve) => (given.drained = resolve))
    socket.resume()
    await room
    expect(peer!.listenerCount('drain')).toBe(ofNode)
    socket.destroy()
  })

  it('is not produced any more behind another one when the client has gone, and leaves nothing on a connection that stays', async () => {
    let peer: Socket | undefined
    server.on('connection', (socket: Socket) => void (peer = socket))
    const bodies = Array.from({ length: 4 }, () => new Written((sink) => void sink.write(bytes('data: 1\n\n'))))
    const left = [...bodies]
    beforeAnswer = () => {
      body = left.shift()!
      return Promise.resolve()
    }
    const socket = connect(port(), '127.0.0.1')
    socket.resume()
    const get = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n'
    socket.write(get)
    await bodies[0]!.opened
    const alone = peer!.listenerCount('close')
    socket.write(get.repeat(3))
    const sinks = await Promise.all(bodies.map(({ opened }) => opened))
    for (const sink of sinks.slice(0, 2)) sink.end()
    await Promise.all(bodies.slice(0, 2).map(({ over }) => over))
    // Only the two that are not done listen to it.
    expect(peer!.listenerCount('close')).toBe(alone + 2)
    socket.destroy()
    await Promise.all(bodies.map(({ over }) => over))
    expect(bodies.map(({ timesGone }) => timesGone)).toEqual([1, 1, 1, 1])
  })

  it.each([0, 1])('is not begun when the client left before there was an answer, behind %i others', async (others) => {
    const unread = new Written(() => undefined)
    const closed = new Promise<void>((resolve) => {
      server.on('connection', (peer) => peer.once('close', () => setImmediate(resolve)))
    })
    const socket = connect(port(), '127.0.0.1')
    let asked = 0
    beforeAnswer = () => {
      body = asked++ < others ? new Written(() => undefined) : unread
      if (body !== unread) return Promise.resolve()
      socket.destroy()
      return closed
    }
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(others + 1))
    expect(await unread.opened).toBe(nowhere)
    await expect(unread.over).resolves.toBeUndefined()
  })
})
