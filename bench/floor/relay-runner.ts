/** The runner's side of the two-hop floor: lines of a source go out as they come, and the source pauses without credit. */
import { WebSocket } from 'ws'
import { ACK, CANCEL, RUN_BYTES, START, toRouter, WINDOW } from './relay-wire.ts'
import type { Source, StartSource } from './source.ts'

interface Live {
  readonly source: Source
  unacked: number
  paused: boolean
}

/** Resolves once it is connected. */
export async function connectRelay(port: number, start: StartSource): Promise<void> {
  // On loopback the product masks with zeros too: a floor that scrambles every byte would be no floor.
  const generateMask = (mask: Buffer) => void mask.fill(0)
  const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false, generateMask })
  const live = new Map<number, Live>()
  const begin = (id: number, prompt: string) => {
    const source = start(prompt, {
      lines(bytes) {
        const run = live.get(id)!
        run.unacked += bytes.length
        socket.send(toRouter(id, bytes))
        if (run.unacked < WINDOW || run.paused) return
        run.paused = true
        run.source.pause()
      },
      end() {
        live.delete(id)
        socket.send(toRouter(id, Buffer.alloc(0)))
      },
    })
    live.set(id, { source, unacked: 0, paused: false })
  }
  const acked = (run: Live | undefined, bytes: number) => {
    if (!run) return
    run.unacked -= bytes
    if (!run.paused || run.unacked >= WINDOW) return
    run.paused = false
    run.source.resume()
  }
  socket.on('message', (data) => {
    const message = data as Buffer
    const id = message.readUInt32LE(1)
    const rest = 1 + RUN_BYTES
    if (message[0] === START) begin(id, message.toString('utf8', rest))
    else if (message[0] === CANCEL) live.get(id)?.source.interrupt()
    else if (message[0] === ACK) acked(live.get(id), message.readUInt32LE(rest))
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve)
    socket.once('error', reject)
  })
}
