/** Bodies of requests, read whole: a provider may have to be asked after another one. How much of them there is at once is bounded. */
import type { IncomingMessage } from 'node:http'

/** The CLI's own cap on a request is 32 MB. */
export const MAX_BODY_BYTES = 32 * 1024 * 1024

/** So many bytes and no more. */
export class Room {
  readonly #bytes: number
  #taken = 0

  constructor(bytes: number) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes - this.#taken
  }

  take(bytes: number): void {
    this.#taken += bytes
  }

  give(bytes: number): void {
    this.#taken -= bytes
  }
}

/** `release` is to be called when the body is no longer needed. `full`: there is no room for it now. */
export type Read = { release(): void } & (
  | { readonly kind: 'whole'; readonly body: Uint8Array }
  | { readonly kind: 'long'; readonly maxBytes: number }
  | { readonly kind: 'full' }
)

/** Rejects when whoever sends it has gone before it was whole. */
export async function readBody(request: IncomingMessage, rooms: readonly Room[]): Promise<Read> {
  const chunks: Buffer[] = []
  let [bytes, held, isFull] = [0, 0, false]
  const release = () => {
    for (const room of rooms) room.give(held)
    chunks.length = held = 0
  }
  try {
    // Breaking off would close the connection before the answer is on it, so some of what is too much is read as well.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length
      isFull ||= rooms.some((room) => room.left < chunk.length)
      if (isFull || bytes > MAX_BODY_BYTES) {
        release()
        if (bytes > 2 * MAX_BODY_BYTES) break
        continue
      }
      for (const room of rooms) room.take(chunk.length)
      held += chunk.length
      chunks.push(chunk)
    }
  } catch (error) {
    release()
    throw error
  }
  if (bytes > MAX_BODY_BYTES) return { kind: 'long', maxBytes: MAX_BODY_BYTES, release }
  return isFull ? { kind: 'full', release } : { kind: 'whole', body: Buffer.concat(chunks), release }
}
