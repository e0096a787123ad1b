import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sendStream } from './send-stream.ts'

let server: Server
let body: ReadableStream<Uint8Array>
let beforeAnswer: () => Promise<void>
const port = () => (server.address() as AddressInfo).port
const bytes = (text: string) => new TextEncoder().encode(text)

beforeEach(async () => {
  beforeAnswer = () => Promise.resolve()
  server = createServer((_request, outgoing) => {
    void beforeAnswer().then(() => sendStream(new Response(body, { headers: { 'content-type': 'text/event-stream', 'x-run-id': 'r' } }), outgoing))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  server.closeAllConnections()
  return new Promise((resolve) => server.close(resolve))
})

describe('a streamed answer', () => {
  it('arrives with its head and as it was given', async () => {
    const pieces = Array.from({ length: 50 }, (_, i) => bytes(`${i},`.repeat(10_000)))
    body = new ReadableStream({
      pull(out) {
        const piece = pieces.shift()
        if (piece) out.enqueue(piece)
        else out.close()
      },
    })
    const expected = pieces.map((p) => Buffer.from(p).toString()).join('')
    const response = await fetch(`http://127.0.0.1:${port()}/`)
    expect(response.headers.get('x-run-id')).toBe('r')
    expect(await response.text()).toBe(expected)
  })

  it('is cut without a word when its body fails', async () => {
    let fail: (error: Error) => void = () => undefined
    body = new ReadableStream({
      start(out) {
        out.enqueue(bytes('data: 1\n\n'))
        fail = (error) => out.error(error)
      },
    })
    const socket = connect(port(), '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    let seen = ''
    socket.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      seen += chunk.toString()
      if (seen.includes('data: 1')) fail(new Error('Failed query: select secret'))
    })
    await new Promise<void>((resolve) => socket.once('close', () => resolve()))
    expect(seen).toContain('data: 1')
    expect(seen).not.toContain('secret')
    expect(seen).not.toContain('0\r\n\r\n')
  })

  it('is not produced any more when the client has gone', async () => {
    let cancelled: () => void = () => undefined
    const gone = new Promise<void>((resolve) => (cancelled = resolve))
    body = new ReadableStream({ start: (out) => out.enqueue(bytes('data: 1\n\n')), cancel: () => cancelled() })
    const socket = connect(port(), '127.0.0.1')
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    socket.once('data', () => socket.destroy())
    await expect(gone).resolves.toBeUndefined()
  })

  it('is not begun when the client left before there was an answer', async () => {
    let cancelled: () => void = () => undefined
    const gone = new Promise<void>((resolve) => (cancelled = resolve))
    body = new ReadableStream({ cancel: () => cancelled() })
    const socket = connect(port(), '127.0.0.1')
    beforeAnswer = async () => {
      const closed = new Promise<void>((resolve) => server.once('connectionClosed', () => resolve()))
      await closed
    }
    server.on('connection', (peer) => peer.once('close', () => setImmediate(() => server.emit('connectionClosed'))))
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    server.once('request', () => socket.destroy())
    await expect(gone).resolves.toBeUndefined()
  })
})
