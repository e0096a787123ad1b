/**
 * A TCP proxy that can be a bad network: late, slow, in slivers, cut, or silent.
 *
 * Silence is that of a real path: nothing gets through, no end either, new connections hang, and what was under way
 * arrives when the path is back. `up` is from the one who dials to the target.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export type Direction = 'up' | 'down'
/** `sliceBytes`: writes of 1 to so many bytes. */
export type Shape = { latencyMs?: number; bytesPerS?: number; sliceBytes?: number }

/** Held for one direction at most; past it the sender feels it. */
const QUEUE_BYTES = 256 * 1024

type Piece = { at: number; what: Buffer | 'end' | 'closed' | 'reset' }

export class FaultProxy {
  readonly #server: Server
  readonly #open = new Set<Socket>()
  readonly #target: () => number
  readonly #gates: Record<Direction, Gate> = { up: new Gate(), down: new Gate() }
  readonly #shapes: Record<Direction, Shape> = { up: {}, down: {} }

  private constructor(target: () => number) {
    this.#target = target
    this.#server = createServer({ allowHalfOpen: true }, (client) => void this.#accept(client))
  }

  /** `target` is asked for the port at each connection. */
  static async start(target: () => number): Promise<FaultProxy> {
    const proxy = new FaultProxy(target)
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve))
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Connections that somebody dialled and that are still open. */
  get connections(): number {
    return Math.ceil(this.#open.size / 2)
  }

  shape(shape: Shape, directions: readonly Direction[] = ['up', 'down']): void {
    for (const direction of directions) this.#shapes[direction] = shape
  }

  /** Nothing passes until `heal`. */
  blackhole(directions: readonly Direction[] = ['up', 'down']): void {
    for (const direction of directions) this.#gates[direction].shut()
  }

  heal(): void {
    this.#gates.up.open()
    this.#gates.down.open()
  }

  /** Resets this share of the connections. Bytes under way are lost. */
  cut(share = 1): void {
    for (const socket of this.#open) if (share >= 1 || Math.random() < share) socket.resetAndDestroy()
  }

  async close(): Promise<void> {
    this.heal()
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#open) socket.destroy()
    await closed
  }

  async #accept(client: Socket): Promise<void> {
    this.#keep(client)
    client.pause()
    await this.#gates.up.passed
    if (client.destroyed) return
    const upstream = connect({ port: this.#target(), host: '127.0.0.1', allowHalfOpen: true })
    this.#keep(upstream)
    void this.#carry('up', client, upstream)
    void this.#carry('down', upstream, client)
  }

  #keep(socket: Socket): void {
    this.#open.add(socket)
    socket.setNoDelay(true)
    // What an error means is said by the close after it.
    socket.on('error', () => undefined)
    socket.on('close', () => this.#open.delete(socket))
  }

  async #carry(direction: Direction, from: Socket, to: Socket): Promise<void> {
    const pieces: Piece[] = []
    let bytes = 0
    let more: () => void = () => undefined
    const push = (what: Piece['what']) => {
      pieces.push({ at: performance.now(), what })
      more()
    }
    from.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > QUEUE_BYTES) from.pause()
      push(chunk)
    })
    from.on('end', () => push('end'))
    // Both sides may have said goodbye; then what is still under way to the other one is not to be lost.
    from.on('close', () => push(from.readableEnded && from.writableFinished ? 'closed' : 'reset'))
    from.resume()
    for (;;) {
      const piece = pieces.shift()
      if (!piece) {
        await new Promise<void>((resolve) => (more = resolve))
        continue
      }
      const waitMs = piece.at + (this.#shapes[direction].latencyMs ?? 0) - performance.now()
      if (waitMs > 0) await sleep(waitMs)
      await this.#gates[direction].passed
      if (piece.what === 'reset') return void to.resetAndDestroy()
      if (piece.what === 'closed') return
      if (piece.what === 'end') {
        to.end()
        continue
      }
      await this.#send(direction, to, piece.what)
      bytes -= piece.what.length
      if (bytes <= QUEUE_BYTES) from.resume()
    }
  }

  async #send(direction: Direction, to: Socket, chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length && !to.destroyed; ) {
      const { sliceBytes, bytesPerS } = this.#shapes[direction]
      const size = sliceBytes === undefined ? QUEUE_BYTES : 1 + Math.floor(Math.random() * sliceBytes)
      const slice = chunk.subarray(at, at + size)
      at += slice.length
      if (!to.write(slice)) await drained(to)
      if (bytesPerS !== undefined) await sleep((slice.length / bytesPerS) * 1_000)
      else if (sliceBytes !== undefined) await sleep(0)
    }
  }
}

/** Open or shut; `passed` resolves while it is open. */
class Gate {
  passed: Promise<void> = Promise.resolve()
  #open: (() => void) | undefined

  shut(): void {
    if (!this.#open) this.passed = new Promise((resolve) => (this.#open = resolve))
  }

  open(): void {
    this.#open?.()
    this.#open = undefined
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off('drain', done)
      socket.off('close', done)
      resolve()
    }
    socket.on('drain', done)
    socket.on('close', done)
    if (socket.destroyed) done()
  })
}
