import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { answerUpgrades, type FetchUpgrade } from './upgrade.ts'

let server: Server
let port: number
/** What the app answers; set by each test. */
let app: FetchUpgrade
let sockets: WebSocketServer
const failures: unknown[] = []
beforeEach(async () => {
  failures.length = 0
  server = createServer()
  sockets = new WebSocketServer({ noServer: true })
  answerUpgrades(server, sockets, (request, env) => app(request, env), (error) => failures.push(error))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
})
afterEach(() => new Promise((resolve) => server.close(resolve)))

/** Everything that comes back until the other side ends it. */
function raw(target: string, ...headers: string[]): Promise<string> {
  return rawBy('GET', target, ...headers)
}

function rawBy(method: string, target: string, ...headers: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => socket.write([`${method} ${target} HTTP/1.1`, ...headers, 'Connection: Upgrade', '', ''].join('\r\n')))
    socket.setEncoding('utf8').on('data', (data: string) => (text += data))
    socket.on('end', () => resolve(text)).on('error', reject)
  })
}
const HANDSHAKE = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']

describe('a request for an upgrade', () => {
  it('becomes a WebSocket where the app takes it over, with the headers that it was answered with', async () => {
    const heard: unknown[] = []
    app = (request, env) => {
      env.accepted = (ws) => {
        ws.on('message', (data: Buffer) => {
          heard.push(data.toString())
          ws.send('there')
        })
      }
      return new Response(null, { headers: { 'x-path': new URL(request.url).pathname } })
    }
    const client = new WebSocket(`ws://127.0.0.1:${port}/here?x=1`)
    const path = new Promise((resolve) => client.once('upgrade', ({ headers }) => resolve(headers['x-path'])))
    client.once('open', () => client.send('hello'))
    const answer = await new Promise((resolve) => client.once('message', (data: Buffer) => resolve(data.toString())))
    expect([await path, heard, answer]).toEqual(['/here', ['hello'], 'there'])
    await new Promise((resolve) => client.once('close', resolve).close())
  })

  it('that the app refuses is answered with what it says', async () => {
    app = () => Response.json({ code: 'no' }, { status: 403, headers: { 'x-why': 'not you' } })
    const answer = await raw('/x', `Host: 127.0.0.1:${port}`, ...HANDSHAKE)
    expect(answer).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/)
    expect(answer).toMatch(/\r\nx-why: not you\r\n/)
    expect(answer.endsWith('\r\n\r\n{"code":"no"}')).toBe(true)
  })

  it('to where there is none is refused, and what the app would have streamed is let go', async () => {
    let letGo = false
    app = () => new Response(new ReadableStream({ cancel: () => void (letGo = true) }))
    expect(await raw('/events', `Host: 127.0.0.1:${port}`, ...HANDSHAKE)).toMatch(/^HTTP\/1\.1 426 /)
    expect(letGo).toBe(true)
  })

  it('by another method is refused without the app', async () => {
    app = () => Promise.reject(new Error('nobody asks'))
    expect(await rawBy('POST', '/x', `Host: 127.0.0.1:${port}`, ...HANDSHAKE)).toMatch(/^HTTP\/1\.1 405 Method Not Allowed\r\n(?:.+\r\n)*allow: GET\r\n/)
    expect(await rawBy('HEAD', '/x', `Host: 127.0.0.1:${port}`, ...HANDSHAKE)).toMatch(/^HTTP\/1\.1 405 /)
  })

  it('whose answer cannot be given loses its connection, and nobody else notices', async () => {
    const bodyFails = () => new Response(new ReadableStream({ start: (controller) => controller.error(new Error('no body')) }), { status: 403 })
    const takerFails: FetchUpgrade = (_request, env) => {
      env.accepted = () => {
        throw new Error('no taker')
      }
      return new Response(null, { headers: { 'x-once': 'me' } })
    }
    for (const fails of [bodyFails, takerFails]) {
      app = fails
      await raw('/x', `Host: 127.0.0.1:${port}`, ...HANDSHAKE)
    }
    expect(failures).toEqual([new Error('no body'), new Error('no taker')])
    expect(sockets.listenerCount('headers')).toBe(0)
  })

  it('to another protocol is refused without the app', async () => {
    app = () => Promise.reject(new Error('nobody asks'))
    expect(await raw('/x', `Host: 127.0.0.1:${port}`, 'Upgrade: h2c')).toMatch(/^HTTP\/1\.1 426 /)
  })

  it('keeps the host that it names where the app can see it', async () => {
    const hosts: string[] = []
    app = (request) => {
      hosts.push(new URL(request.url).host)
      return new Response(null, { status: 403 })
    }
    for (const target of ['/x', '//evil/x', 'http://evil/x', '*']) await raw(target, 'Host: good', ...HANDSHAKE)
    expect(hosts).toEqual(['good', 'good', 'evil', 'good'])
    expect(await raw('/x', 'Host: a b', ...HANDSHAKE)).toMatch(/^HTTP\/1\.1 400 /)
  })
})
