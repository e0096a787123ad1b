import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { BodySource, Sink } from '../engine/body-source.ts'
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

  it('is not begun when the client left before there was an answer', async () => {
    const unread = new Written(() => undefined)
    body = unread
    const socket = connect(port(), '127.0.0.1')
    beforeAnswer = async () => {
      const closed = new Promise<void>((resolve) => server.once('connectionClosed', () => resolve()))
      await closed
    }
    server.on('connection', (peer) => peer.once('close', () => setImmediate(() => server.emit('connectionClosed'))))
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    server.once('request', () => socket.destroy())
    await expect(unread.over).resolves.toBeUndefined()
  })
})
