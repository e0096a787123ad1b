import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { identityRouter, listenOnLoopback, type IdentityRouter } from '../../test/support/identity-router.ts'

let router: IdentityRouter
beforeAll(async () => {
  router = await identityRouter({
    publicUrl: 'https://Runs.example.com',
    allowedHosts: ['build.example.com', '10.0.0.7', '2001:db8::7'],
    corsOrigins: ['https://app.example.com', 'http://localhost:5173'],
  })
})
afterAll(() => router.close())

async function ask(
  url: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<{ status: number; code: unknown; headers: Headers }> {
  const response = await router.app.request(url, { method, headers })
  const text = await response.text()
  const body: unknown = text.startsWith('{') ? JSON.parse(text) : {}
  return { status: response.status, code: { ...Object(body) }['code'], headers: response.headers }
}
const HEALTH = 'http://localhost:8787/healthz'

describe('the Host of a request', () => {
  it.each([
    'localhost',
    'localhost:1',
    'LOCALHOST.',
    '127.0.0.1:8787',
    '[::1]:8787',
    'build.example.com',
    'BUILD.example.com:8443',
    '10.0.0.7',
    '[2001:db8::7]',
    'runs.example.com',
  ])('%s is ours', async (host) => {
    expect((await ask(HEALTH, { host })).status).toBe(200)
  })

  it.each([
    '',
    'evil.com',
    'localhost.evil.com',
    '127.0.0.1.evil.com',
    'localhost:8787@evil.com',
    'build.example.com.evil.com',
    'xbuild.example.com',
    '0.0.0.0',
    '10.0.0.8',
    '[::]',
    'example.com',
    'localhost, evil.com',
    '*',
  ])('%j is not', async (host) => {
    expect(await ask(HEALTH, { host })).toMatchObject({ status: 403, code: 'host' })
  })

  it('is refused on every route, also on one that does not exist', async () => {
    for (const path of [
      '/',
      '/healthz',
      '/v1/runs',
      '/admin/v1/tokens',
      '/.well-known/jwks.json',
      '/v1/runners/enroll',
      '/nothing',
    ]) {
      for (const method of ['GET', 'POST', 'OPTIONS', 'DELETE']) {
        expect(await ask(`http://localhost${path}`, { host: 'evil.com' }, method)).toMatchObject({ status: 403, code: 'host' })
      }
    }
  })

  it('is the authority of the URL where there is no header, as in HTTP/2', async () => {
    expect(await ask('http://evil.com/healthz')).toMatchObject({ status: 403, code: 'host' })
    expect(await ask('http://10.0.0.7/healthz')).toMatchObject({ status: 200 })
  })

  it('must be ours in the header and in the URL when they differ', async () => {
    expect(await ask('http://evil.com/healthz', { host: 'localhost' })).toMatchObject({ status: 403, code: 'host' })
    expect(await ask('http://localhost/healthz', { host: 'evil.com' })).toMatchObject({ status: 403, code: 'host' })
  })
})

describe('the Origin of a request', () => {
  it.each([
    ['http://localhost:8787', 'localhost:8787'],
    ['https://runs.example.com', 'runs.example.com'],
    ['http://127.0.0.1:8787', '127.0.0.1:8787'],
    ['https://app.example.com', 'localhost:8787'],
    ['http://localhost:5173', 'localhost:8787'],
  ])('%s may call %s', async (origin, host) => {
    expect((await ask(HEALTH, { origin, host })).status).toBe(200)
  })

  it.each([
    'https://evil.com',
    'http://localhost',
    'http://localhost:3000',
    'http://127.0.0.1:8787',
    'https://app.example.com.evil.com',
    'https://app.example.com:8443',
    'http://app.example.com',
    'null',
    '',
    'file://',
    'chrome-extension://abc',
    'https://app.example.com/',
    'https://u@app.example.com',
    'http://localhost:8787, http://evil.com',
  ])('%j may not call localhost:8787', async (origin) => {
    for (const path of ['/healthz', '/v1/runs', '/admin/v1/tokens', '/nothing']) {
      expect(await ask(`http://localhost:8787${path}`, { origin, host: 'localhost:8787' }, 'POST')).toMatchObject({
        status: 403,
        code: 'origin',
      })
    }
  })

  it('a foreign page is refused before its host name is vouched for, and before its query is read', async () => {
    expect((await ask('http://localhost:8787/?token=a', { origin: 'https://evil.com', host: 'evil.com' })).code).toBe('host')
    expect((await ask('http://localhost:8787/?token=a', { origin: 'https://evil.com' })).code).toBe('origin')
    expect((await ask('http://localhost:8787/?token=a')).code).toBe('token_in_query')
  })

  it('a preflight from a listed origin is answered, from any other refused', async () => {
    const preflight = { 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' }
    const listed = await ask('http://localhost:8787/v1/runs', { ...preflight, origin: 'https://app.example.com' }, 'OPTIONS')
    expect(listed.status).toBe(204)
    expect(listed.headers.get('access-control-allow-origin')).toBe('https://app.example.com')
    expect(listed.headers.get('access-control-allow-headers')).toMatch(/authorization/i)
    expect(listed.headers.get('access-control-allow-credentials')).toBeNull()
    const other = await ask('http://localhost:8787/v1/runs', { ...preflight, origin: 'https://evil.com' }, 'OPTIONS')
    expect(other).toMatchObject({ status: 403, code: 'origin' })
    expect(other.headers.get('access-control-allow-origin')).toBeNull()
  })

  it('a listed page can read our errors too', async () => {
    const { status, headers } = await ask('http://localhost:8787/v1/runs', { origin: 'https://app.example.com' })
    expect(status).toBe(401)
    expect(headers.get('access-control-allow-origin')).toBe('https://app.example.com')
    expect(headers.get('vary')).toMatch(/origin/i)
  })

  it('a listed origin opens nothing without a token', async () => {
    expect((await ask('http://localhost:8787/v1/runners', { origin: 'https://app.example.com' })).status).toBe(401)
  })
})

describe('a token in the query', () => {
  it('is 400 on every route, even beside a good one', async () => {
    const { token } = await router.mint({ kind: 'admin' })
    for (const path of [
      '/healthz',
      '/v1/runs',
      '/v1/runners',
      '/v1/runners/connect',
      '/admin/v1/tokens',
      '/openapi.json',
      '/nothing',
    ]) {
      for (const query of ['access_token=abc', `q=${token}`]) {
        const answer = await ask(`http://localhost:8787${path}?${query}`, { authorization: `Bearer ${token}` })
        expect(answer).toMatchObject({ status: 400, code: 'token_in_query' })
      }
    }
  })
})

describe('over a real socket', () => {
  let server: Server
  let port: number
  beforeAll(async () => {
    const handle = getRequestListener(router.app.fetch)
    server = createServer((request, response) => void handle(request, response))
    port = await listenOnLoopback(server)
  })
  afterAll(() => new Promise<void>((resolve) => void server.close(() => resolve())))

  const raw = (head: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(`${head}\r\nConnection: close\r\n\r\n`))
      let text = ''
      socket.setEncoding('latin1')
      socket.on('data', (chunk: string) => (text += chunk))
      socket.on('error', reject)
      socket.on('close', () => resolve(Number(text.split(' ')[1])))
    })

  it.each([
    ['GET /healthz HTTP/1.1\r\nHost: localhost', 200],
    ['GET /healthz HTTP/1.1\r\nHost: evil.com', 403],
    ['GET /healthz HTTP/1.1\r\nHost:', 400],
    ['GET /healthz HTTP/1.1', 400],
    ['GET /healthz HTTP/1.0', 400],
    ['GET http://evil.com/healthz HTTP/1.1\r\nHost: localhost', 403],
    ['GET http://localhost/healthz HTTP/1.1\r\nHost: evil.com', 403],
    ['GET /healthz HTTP/1.1\r\nHost: localhost:80@evil.com', 400],
    ['GET /healthz HTTP/1.1\r\nHost: 1.2.3.999', 403],
    ['GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.com', 403],
    ['GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.com', 403],
    ['GET /healthz?token=x HTTP/1.1\r\nHost: localhost', 400],
  ])('%j is answered with %i', async (head, status) => {
    expect(await raw(head)).toBe(status)
  })
})
