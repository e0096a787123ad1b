/**
 * Writes a body to its socket, no faster than the socket takes it. A body that fails cuts the connection, and a connection
 * that closes ends the body.
 *
 * Not the adapter's way, which has a reader, promises and the whole request for as long as the answer takes, and ends a body
 * that fails with the text of its error.
 */
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { ServerResponse } from 'node:http'
import { nowhere, type BodySource, type Sink } from '../engine/body-source.ts'

/** The answer for the adapter: there is nothing left for it to do. */
export function sendStream(source: BodySource, { status, headers }: Response, outgoing: ServerResponse): Response {
  if (outgoing.destroyed) {
    source.open(nowhere)
    source.gone()
    return RESPONSE_ALREADY_SENT
  }
  outgoing.writeHead(status, Object.fromEntries(headers))
  outgoing.flushHeaders()
  forget(outgoing)
  outgoing.on('drain', () => source.drained())
  outgoing.once('close', () => source.gone())
  source.open(new SocketSink(outgoing))
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

class SocketSink implements Sink {
  readonly #outgoing: ServerResponse

  constructor(outgoing: ServerResponse) {
    this.#outgoing = outgoing
  }

  write(bytes: Uint8Array): boolean {
    return this.#outgoing.write(bytes)
  }

  end(): void {
    this.#outgoing.end()
  }

  cut(): void {
    this.#outgoing.destroy()
  }
}
