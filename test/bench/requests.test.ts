import { createServer, type Server } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { hammer, type Job } from '../../bench/short/requests.ts'

let server: Server | TcpServer | undefined
afterEach(() => void server?.close())

async function jobAt(listening: Server | TcpServer): Promise<Job> {
  server = listening
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
  const { port } = listening.address() as AddressInfo
  return { port, method: 'GET', path: '/a', headers: { 'x-a': 'b' }, status: 200, answer: 'hello', connections: 3, seconds: 0.1 }
}

/** Writes that to whatever it is asked, in pieces that arrive one by one. */
const speaking = (pieces: readonly string[]) =>
  createTcpServer({ noDelay: true }, (socket: Socket) => {
    socket.on('error', () => undefined)
    const speak = async () => {
      for (const piece of pieces) {
        socket.write(piece)
        await sleep(2)
      }
    }
    socket.on('data', () => void speak())
  })

it('counts every answer, one at a time on each connection, and none as wrong that is as it was told', async () => {
  const asked = new Set<string>()
  let atOnce = 0
  let most = 0
  const job = await jobAt(
    createServer((request, response) => {
      asked.add([request.method, request.url, request.headers['x-a']].join(' '))
      most = Math.max(most, ++atOnce)
      setImmediate(() => {
        atOnce--
        response.end('hello')
      })
    }),
  )
  const done = await hammer(job)
  expect(done.answers).toBeGreaterThanOrEqual(3)
  expect(done.wrong).toBe(0)
  expect(most).toBeLessThanOrEqual(3)
  expect([...asked]).toEqual(['GET /a b'])
})

it('sends a body with its length', async () => {
  const bodies = new Set<string>()
  const job = await jobAt(
    createServer((request, response) => {
      let body = ''
      request.on('data', (piece: Buffer) => (body += piece.toString()))
      request.on('end', () => {
        bodies.add(`${request.headers['content-length'] ?? ""} ${body}`)
        response.statusCode = 400
        response.end('no')
      })
    }),
  )
  const { answer: _, ...rest } = job
  expect(await hammer({ ...rest, method: 'POST', body: '{"é":1}', status: 400 })).toMatchObject({ wrong: 0 })
  expect([...bodies]).toEqual(['8 {"é":1}'])
})

it('counts an answer with another status or other bytes as wrong', async () => {
  let n = 0
  const job = await jobAt(
    createServer((_request, response) => {
      n++
      response.statusCode = n % 2 === 0 ? 200 : 503
      response.end(n % 4 === 0 ? 'hellO' : 'hello')
    }),
  )
  const { answers, wrong } = await hammer({ ...job, connections: 1 })
  const right = Math.floor((answers + 2) / 4)
  expect(wrong).toBe(answers - right)
})

it('waits for an answer that comes in pieces, wherever it was cut', async () => {
  const whole = 'HTTP/1.1 200 OK\r\nX-B: c\r\nContent-Length: 5\r\n\r\nhello'
  for (const at of [5, 30, whole.length - 7, whole.length - 2]) {
    const done = await hammer(await jobAt(speaking([whole.slice(0, at), whole.slice(at)])))
    expect(done.wrong).toBe(0)
    expect(done.answers).toBeGreaterThanOrEqual(3)
    server?.close()
  }
})

it('counts an answer as wrong that has bytes behind it', async () => {
  const { answers, wrong } = await hammer(await jobAt(speaking(['HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!'])))
  expect(wrong).toBe(answers)
})

it('gives up when a connection is closed, and when an answer has no length', async () => {
  await expect(hammer(await jobAt(createTcpServer((socket) => void socket.end())))).rejects.toThrow('closed a connection')
  server?.close()
  await expect(hammer(await jobAt(speaking(['HTTP/1.1 200 OK\r\n\r\n'])))).rejects.toThrow('without content-length')
})
