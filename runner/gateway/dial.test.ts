import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { request } from 'undici'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { dialler, type Dialler } from './dial.ts'
import { outcomeOfError } from './outcome.ts'

describe('dialling a provider', () => {
  let server: Server
  let connections = 0
  let out: Dialler
  beforeEach(async () => {
    connections = 0
    server = createServer((_request, response) => response.end('ok')).on('connection', () => connections++)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    out = dialler({})
  })
  afterEach(async () => {
    await out.close()
    server.closeAllConnections()
    server.close()
  })

  const ask = (host: string, mayBePrivate: boolean) =>
    request(`http://${host}:${(server.address() as AddressInfo).port}/`, { dispatcher: out.of(mayBePrivate) }).then(
      ({ body }) => body.text(),
      (error: unknown) => outcomeOfError(error),
    )

  it.each(['127.0.0.1', 'localhost', '2130706433', '[::ffff:127.0.0.1]', '[::1]', '0.0.0.0'])('%s is refused before a connection is made', async (host) => {
    expect(await ask(host, false)).toBe('refused_url')
    expect(connections).toBe(0)
  })

  it('at a private address works where the owner allows it, and keeps the connection', async () => {
    expect(await ask('localhost', true)).toBe('ok')
    await setImmediate()
    expect(await ask('localhost', true)).toBe('ok')
    expect(connections).toBe(1)
  })

  it('that does not exist is unreachable', async () => {
    expect(await ask('no-such-host.invalid', false)).toBe('unreachable')
  })

  it('goes to the proxy of the runner for https, and to nobody’s for what NO_PROXY names', async () => {
    const asked: string[] = []
    server.on('connect', (incoming, socket) => {
      asked.push(incoming.url ?? '')
      socket.end('HTTP/1.1 502 no\r\n\r\n')
    })
    const proxied = dialler({ HTTPS_PROXY: `127.0.0.1:${(server.address() as AddressInfo).port}`, NO_PROXY: 'direct.invalid' })
    for (const host of ['api.invalid', 'direct.invalid']) await request(`https://${host}/`, { dispatcher: proxied.of(false) }).catch(() => undefined)
    await proxied.close()
    expect(asked).toEqual(['api.invalid:443'])
  })
})
