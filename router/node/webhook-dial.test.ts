import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NOT_PUBLIC, TOO_LATE, UNREACHABLE } from '../webhooks/post.ts'
import { webhookDialler, type Resolver, type WebhookDialler } from './webhook-dial.ts'

describe('a webhook over the network of this machine', () => {
  let server: Server
  let connections: number
  let seen: { method: string | undefined; path: string | undefined; headers: IncomingHttpHeaders; body: string }[]
  let answer: RequestListener
  let dialler: WebhookDialler
  const closers: (() => Promise<void>)[] = []
  beforeEach(async () => {
    connections = 0
    seen = []
    answer = (_request, response) => response.writeHead(204).end()
    server = createServer((request, response) => {
      const parts: Buffer[] = []
      request.on('data', (part: Buffer) => parts.push(part))
      request.on('end', () => {
        seen.push({ method: request.method, path: request.url, headers: request.headers, body: Buffer.concat(parts).toString() })
        answer(request, response)
      })
    }).on('connection', () => connections++)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    dialler = open()
  })
  afterEach(async () => {
    await Promise.all(closers.splice(0).map((close) => close()))
    server.closeAllConnections()
    server.close()
  })

  const open = (resolve?: Resolver): WebhookDialler => {
    const opened = webhookDialler(resolve)
    closers.push(() => opened.close())
    return opened
  }
  const url = (host: string, path = '/hook') => `http://${host}:${(server.address() as AddressInfo).port}${path}`
  const post = (to: string, { by = dialler, mayBePrivate = true, timeoutMs = 5_000, signal = new AbortController().signal } = {}) =>
    by.post({ url: to, headers: { 'content-type': 'application/json', 'webhook-id': 'msg_1' }, body: '{"a":"ü"}', timeoutMs, mayBePrivate, signal }).then(
      ({ status, retryAfter }) => (retryAfter === undefined ? status : `${status} ${retryAfter}`),
      (error: Error) => error.message,
    )
  const resolving = (...answers: string[][]): { resolve: Resolver; asked: () => number } => {
    let asked = 0
    const resolve: Resolver = () => {
      const addresses = answers[Math.min(asked++, answers.length - 1)] ?? []
      return Promise.resolve(addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })))
    }
    return { resolve, asked: () => asked }
  }

  it('arrives as it was given', async () => {
    expect(await post(url('localhost', '/a?b=c'))).toBe(204)
    expect(seen).toMatchObject([{ method: 'POST', path: '/a?b=c', body: '{"a":"ü"}', headers: { 'webhook-id': 'msg_1', 'content-type': 'application/json' } }])
  })

  it.each(['127.0.0.1', '2130706433', '0x7f.1', '017700000001', '[::ffff:127.0.0.1]', '[::1]', '[::]', '0.0.0.0'])('to %s is refused before a connection is made', async (host) => {
    expect(await post(url(host), { mayBePrivate: false })).toBe(NOT_PUBLIC)
    expect(connections).toBe(0)
  })

  it.each([['127.0.0.1'], ['10.0.0.1'], ['169.254.169.254'], ['fd00::1'], ['fe80::1'], ['::ffff:127.0.0.1'], ['0.0.0.0'], ['100.64.0.1']])('to a name that leads to %s is refused', async (address) => {
    for (const addresses of [[address], ['8.8.8.8', address], [address, '2606:4700::1']]) {
      const by = open(resolving(addresses).resolve)
      expect(await post(url('hooks.example.com'), { by, mayBePrivate: false })).toBe(NOT_PUBLIC)
    }
    expect(connections).toBe(0)
  })

  it('to a name that changes its mind is refused at the attempt that finds it changed, and never asked twice for one', async () => {
    // Of a public block that nobody uses.
    const { resolve, asked } = resolving(['2606:4700:ffff:ffff:ffff:ffff:ffff:ffff'], ['127.0.0.1'])
    const by = open(resolve)
    expect([UNREACHABLE, TOO_LATE]).toContain(await post(url('rebinding.example.com'), { by, mayBePrivate: false, timeoutMs: 300 }))
    expect(asked()).toBe(1)
    expect(await post(url('rebinding.example.com'), { by, mayBePrivate: false })).toBe(NOT_PUBLIC)
    expect([asked(), connections]).toEqual([2, 0])
  })

  it('to a name that has no address says so', async () => {
    const nothing = Object.assign(new Error('queryA ENOTFOUND'), { code: 'ENOTFOUND' })
    const by = open(() => Promise.reject(nothing))
    expect(await post(url('no-such-host.example.com'), { by, mayBePrivate: false })).toBe('the name of the receiver is not known')
  })

  it('asks name servers without keeping a thread busy, and gives up on those that are silent', async () => {
    const begun = performance.now()
    expect(await post('http://no-such-host.invalid/', { mayBePrivate: false, timeoutMs: 200 })).toMatch(/no answer in time|name of the receiver|could not be reached/)
    expect(performance.now() - begun).toBeLessThan(2_000)
  })

  it('does not follow a redirect, wherever it leads', async () => {
    answer = (_request, response) => response.writeHead(307, { location: url('127.0.0.1', '/secret') }).end()
    expect(await post(url('localhost'))).toBe(307)
    expect(seen.map(({ path }) => path)).toEqual(['/hook'])
  })

  it('tells when the receiver wants to be asked again', async () => {
    answer = (_request, response) => response.writeHead(503, { 'retry-after': '7' }).end('later')
    expect(await post(url('localhost'))).toBe('503 7')
  })

  it('is not held up by a receiver that takes it and says nothing, nor by one that never stops', async () => {
    answer = () => undefined
    expect(await post(url('localhost'), { timeoutMs: 100 })).toBe(TOO_LATE)
    answer = (_request, response) => {
      response.writeHead(200)
      const more = () => response.write('x'.repeat(64 * 1024), () => !response.destroyed && more())
      response.on('error', () => undefined)
      more()
    }
    expect(await post(url('localhost'))).toBe(200)
    // The status is the answer: what comes behind it is not waited for any longer than that.
    answer = (_request, response) => void response.writeHead(200).write('x')
    expect(await post(url('localhost'), { timeoutMs: 100 })).toBe(200)
  })

  it('ends when the router does, and says what it could not reach', async () => {
    const stopping = new AbortController()
    answer = () => stopping.abort()
    expect(await post(url('localhost'), { signal: stopping.signal })).toBe(UNREACHABLE)
    expect(await post('http://no-such-host.invalid/')).toMatch(/name of the receiver|could not be reached/)
    answer = (request) => request.socket.destroy()
    expect(await post(url('localhost'))).toBe(UNREACHABLE)
  })

  it('goes by no proxy', async () => {
    process.env['HTTP_PROXY'] = process.env['HTTPS_PROXY'] = url('127.0.0.1', '')
    try {
      await post('http://no-such-host.invalid/')
      expect(connections).toBe(0)
    } finally {
      delete process.env['HTTP_PROXY']
      delete process.env['HTTPS_PROXY']
    }
  })
})
