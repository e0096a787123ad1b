/** A TCP proxy whose connections a test can cut: the network between a runner and its router. */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Proxy {
  readonly port: number
  /** Resets every connection that is open now. */
  cut(): void
  /** Bytes that went through so far, both ways. */
  readonly bytes: number
  close(): Promise<void>
}

export async function startProxy(targetPort: number): Promise<Proxy> {
  const open = new Set<Socket>()
  let bytes = 0
  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1')
    const both = [client, upstream]
    for (const socket of both) {
      open.add(socket)
      socket.on('data', (chunk) => (bytes += chunk.length))
      socket.on('error', () => undefined)
      socket.on('close', () => {
        open.delete(socket)
        for (const other of both) other.destroy()
      })
    }
    client.pipe(upstream)
    upstream.pipe(client)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    cut: () => open.forEach((socket) => socket.resetAndDestroy()),
    get bytes() {
      return bytes
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of open) socket.destroy()
      await closed
    },
  }
}
