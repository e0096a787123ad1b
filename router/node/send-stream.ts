/**
 * Writes the body of a streamed answer to its socket, no faster than the socket takes it.
 *
 * The adapter's own writer would end a body that fails with the text of the error, which is nobody's business but the
 * log's, and prints it. Here a body that fails cuts the connection, and a connection that closes cancels the body.
 */
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import type { ServerResponse } from 'node:http'

/** The answer for the adapter: there is nothing left for it to do. */
export function sendStream(response: Response, outgoing: ServerResponse): Response {
  if (outgoing.destroyed) {
    void response.body?.cancel()
    return RESPONSE_ALREADY_SENT
  }
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  outgoing.flushHeaders()
  if (response.body) void write(response.body.getReader(), outgoing)
  else outgoing.end()
  return RESPONSE_ALREADY_SENT
}

/** Never rejects: how the body ended is its owner's to log. */
async function write(body: ReadableStreamDefaultReader<Uint8Array>, outgoing: ServerResponse): Promise<void> {
  const cut = () => outgoing.destroy()
  // Also while a write waits for a client that does not read.
  body.closed.catch(cut)
  const gone = new Promise<void>((resolve) => outgoing.once('close', resolve))
  void gone.then(() => body.cancel()).catch(cut)
  try {
    for (;;) {
      const { done, value } = await body.read()
      if (done) break
      if (!outgoing.write(value)) await Promise.race([new Promise((resolve) => outgoing.once('drain', resolve)), gone])
    }
    outgoing.end()
  } catch {
    cut()
  }
}
