/** A way to an HTTP server on loopback that a test can shut, or that loses answers: what was asked is done then, and nobody hears of it. */
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Door {
  readonly url: string
  open(): void
  /** Requests are cut, and not passed on. */
  shut(): void
  /** Requests are taken, and neither passed on nor answered. */
  stall(): void
  /** Of answers, this share is lost. */
  lose(share: number): void
  /** The answer to the next request whose body matches is lost. */
  loseNext(body: RegExp): void
  /** How many answers were lost. */
  readonly lost: number
  close(): Promise<void>
}

export async function openDoor(target: string): Promise<Door> {
  let way: 'open' | 'shut' | 'stalled' = 'open'
  let share = 0
  let next: RegExp | undefined
  let lost = 0
  const server = createServer((inner, answer) => {
    const parts: Buffer[] = []
    inner.on('data', (part: Buffer) => parts.push(part))
    inner.on('end', () => {
      if (way === 'shut') return void inner.socket.destroy()
      if (way === 'stalled') return
      const body = Buffer.concat(parts)
      const loses = Math.random() < share || next?.test(body.toString('latin1')) === true
      if (loses) next = undefined
      const outer = request(target + inner.url, { method: inner.method, headers: inner.headers }, (response) => {
        const said: Buffer[] = []
        response.on('data', (part: Buffer) => said.push(part))
        response.on('end', () => {
          if (loses) {
            lost++
            return void inner.socket.destroy()
          }
          answer.writeHead(response.statusCode!, response.headers)
          answer.end(Buffer.concat(said))
        })
      })
      outer.on('error', () => inner.socket.destroy())
      outer.end(body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    open: () => void (way = 'open'),
    shut: () => void (way = 'shut'),
    stall: () => void (way = 'stalled'),
    lose: (of) => void (share = of),
    loseNext: (body) => void (next = body),
    get lost() {
      return lost
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}
