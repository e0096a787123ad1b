import { Hono } from 'hono'
import { connect } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { Fault } from '../../shared/faults.ts'
import { acceptRunner } from './accept-runner.ts'
import { listen, type Listening } from './listen.ts'

const unused = (): never => {
  throw new Error('nobody is to be connected')
}

let listening: Listening | undefined
afterEach(() => listening?.close())

it('a request whose Connection header does not ask for the upgrade is told so, and makes no seat', async () => {
  const app = new Hono().get('/connect', (c) => acceptRunner(unused)(c, unused))
  app.onError((error, c) => c.body(error.message, error instanceof Fault ? (error.status as 426) : 500))
  const here = (listening = await listen(app.fetch, 0, '127.0.0.1', unused))
  const answer = await new Promise<string>((resolve, reject) => {
    let text = ''
    const socket = connect(here.address.port, '127.0.0.1', () => socket.write('GET /connect HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n'))
    socket.on('data', (data) => (text += data.toString())).on('end', () => resolve(text)).on('error', reject)
  })
  expect(answer).toMatch(/^HTTP\/1\.1 426 /)
})
