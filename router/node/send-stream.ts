/**
 * Writes a body to its socket, no faster than the socket takes it. A body that fails cuts the connection, and a connection
 * that closes ends the body.
 *
 * Not the adapter's way, which has a reader, promises and the whole request for as long as the answer takes, and ends a body
 * that fails with the text of its error.
 */
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { nowhere, type BodySource, type Sink } from '../engine/body-source.ts'

/** Of more than that, to copy it costs more than to send it in pieces; up to it, Buffer has room at hand. */
const MOST_COPIED = 4_000

/** The answer for the adapter: there is nothing left for it to do. */
export function sendStream(source: BodySource, { status, headers }: Response, outgoing: ServerResponse): Response {
  if (outgoing.destroyed || outgoing.req.socket.destroyed) {
    source.open(nowhere)
    source.gone()
    return RESPONSE_ALREADY_SENT
  }
  outgoing.writeHead(status, Object.fromEntries(headers))
  outgoing.flushHeaders()
  forget(outgoing)
  onceGone(outgoing, () => source.gone())
  source.open(new SocketSink(outgoing, () => source.drained()))
  return RESPONSE_ALREADY_SENT
}

/** Streams last, and there are thousands: what the request brought is of no use by now. */
function forget(outgoing: ServerResponse): void {
  const { req } = outgoing
  req.headers = {}
  req.rawHeaders = []
  // The adapter's own, which has the request.
  outgoing.removeAllListeners('close')
}

function onceGone(outgoing: ServerResponse, gone: () => void): void {
  const { req: { socket } } = outgoing
  // Behind another answer on its connection it hears nothing of it until that one is done.
  const isBehind = outgoing.socket === null
  const over = () => {
    if (isBehind) socket.off('close', over)
    outgoing.off('close', over)
    gone()
  }
  if (isBehind) socket.on('close', over)
  outgoing.on('close', over)
}

/**
 * Small pieces go to the socket in one buffer with the frame of their chunk (RFC 9112 §7.1). Node would make four of each, and
 * collect them until the next tick: a fifth of what it costs to send one.
 */
class SocketSink implements Sink {
  readonly #outgoing: ServerResponse
  /** Undefined where Node has to say what goes out: behind another answer that is not done, or to a client of HTTP/1.0. */
  readonly #socket: Socket | undefined
  readonly #drained: () => void
  /** Already listens for room: who is given a page writes all of it. */
  #waits = false

  constructor(outgoing: ServerResponse, drained: () => void) {
    this.#outgoing = outgoing
    this.#socket = outgoing.chunkedEncoding ? (outgoing.socket ?? undefined) : undefined
    this.#drained = () => {
      this.#waits = false
      drained()
    }
  }

  write(bytes: Uint8Array): boolean {
    const isSmall = bytes.length > 0 && bytes.length <= MOST_COPIED
    const took = this.#socket && isSmall ? this.#socket.write(chunkOf(bytes)) : this.#outgoing.write(bytes)
    if (!took && !this.#waits) (this.#socket ?? this.#outgoing).once('drain', this.#drained)
    this.#waits ||= !took
    return took
  }

  end(): void {
    this.#outgoing.end()
  }

  cut(): void {
    this.#outgoing.destroy()
  }
}

function chunkOf(bytes: Uint8Array): Buffer {
  const head = `${bytes.length.toString(16)}\r\n`
  const end = head.length + bytes.length
  const chunk = Buffer.allocUnsafe(end + 2)
  chunk.write(head, 'latin1')
  chunk.set(bytes, head.length)
  chunk[end] = 0x0d
  chunk[end + 1] = 0x0a
  return chunk
}
