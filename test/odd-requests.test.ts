/** Requests that are legal, or nearly, and that nobody had thought of. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchAccessToken } from '../runner/enroll.ts'
import { loadIdentity } from '../runner/identity.ts'
import { resultAt, startFleet, type Fleet, type TestRunner } from './kit/fleet.ts'
import { readSse } from './kit/sse.ts'
import { until } from './kit/wait.ts'

describe('odd requests', () => {
  let fleet: Fleet
  let runner: TestRunner
  beforeAll(async () => {
    fleet = await startFleet()
    runner = await fleet.runner({
      turn: async (sink, offer, stopped) => {
        if (offer.spec.prompt === 'garbage') return { result: resultAt(sink.line(Buffer.from('not json'))) }
        const seq = sink.line(Buffer.from('{"type":"result","result":"fine"}'))
        if (offer.spec.prompt === 'wait') await stopped
        return { result: resultAt(seq) }
      },
    })
  })
  afterAll(() => fleet.close())

  /** What comes back for these bytes, until the other end closes. */
  const raw = (lines: readonly string[]) =>
    new Promise<string>((resolve, reject) => {
      const { port } = new URL(fleet.router.url)
      let text = ''
      const socket = connect(Number(port), '127.0.0.1', () => socket.write([...lines, '', ''].join('\r\n')))
      socket.on('data', (chunk) => (text += chunk.toString()))
      socket.on('error', reject).on('close', () => resolve(text))
    })

  it('answers an upgrade that is no WebSocket instead of holding it', async () => {
    const answer = await raw(['GET /healthz HTTP/1.1', 'Host: localhost', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'])
    expect(answer).toMatch(/^HTTP\/1\.1 426 /)
    expect(answer).toContain('"status":426')
  })

  it('tells a refused runner why, with the versions that it could speak', async () => {
    const identity = await loadIdentity(runner.stateDir)
    const { token } = await fetchAccessToken(identity!, Date.now())
    const upgrade = (protocol: string, bearer: string) =>
      raw([
        'GET /v1/runners/connect HTTP/1.1',
        'Host: localhost',
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        `Sec-WebSocket-Protocol: ${protocol}`,
        `Authorization: Bearer ${bearer}`,
      ])
    const version = await upgrade('runyard.v9', token)
    expect(version).toMatch(/^HTTP\/1\.1 426 /)
    expect(version).toMatch(/upgrade: runyard\.v1/i)
    expect(version).toContain('"supported":["runyard.v1"]')
    const stranger = await upgrade('runyard.v1', 'nonsense')
    expect(stranger).toMatch(/^HTTP\/1\.1 401 /)
    expect(stranger).toContain('"code":"unauthenticated"')
  })

  it('takes a POST without a body for what it is', async () => {
    const head = ['Host: localhost', `Authorization: Bearer ${fleet.token}`, 'Connection: close']
    const cancel = await raw([`POST /v1/runs/run_${'0'.repeat(32)}/cancel HTTP/1.1`, ...head])
    expect(cancel).toMatch(/^HTTP\/1\.1 404 /)
    expect(await raw(['DELETE /v1/runs HTTP/1.1', ...head])).toMatch(/^HTTP\/1\.1 404 /)
  })

  it('refuses JSON that is nested without end, and keeps its slots', async () => {
    const deep = `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`
    for (const field of ['mcp_config', 'json_schema', 'agents']) {
      const response = await fleet.call('/v1/runs', { method: 'POST', body: `{"prompt":"x","${field}":{"a":${deep}}}` })
      expect(response.status).toBe(400)
    }
    expect((await fleet.run({ prompt: 'still there' })).status).toBe(200)
  })

  it('shows a run whose result line is no JSON', async () => {
    const run = (await (await fleet.run({ prompt: 'garbage' })).json()) as { id: string }
    expect(run).toMatchObject({ status: 'succeeded', result: null })
    expect((await fleet.call(`/v1/runs/${run.id}`)).status).toBe(200)
  })

  it('streams to who asks for a stream, in any case, and not to who refuses it', async () => {
    const type = async (accept: string) => {
      const response = await fleet.run({ prompt: 'hi' }, { accept })
      await response.body?.cancel()
      return response.headers.get('content-type')
    }
    expect(await type('Text/Event-Stream')).toContain('text/event-stream')
    expect(await type('application/json, text/event-stream;q=0')).toContain('application/json')
    expect(await type('*/*')).toContain('application/json')
  })

  it('does not call a run finished because the router stops', async () => {
    const waiting = fleet.run({ prompt: 'wait' })
    const { data } = await until('the run', async () => {
      const page = (await (await fleet.call('/v1/runs?status=running')).json()) as { data: { id: string }[] }
      return page.data.length > 0 && page
    })
    await fleet.restart()
    const response = await waiting
    expect(response.status).toBe(503)
    expect(response.headers.get('location')).toBe(`/v1/runs/${data[0]!.id}`)
    expect(response.headers.get('x-should-retry')).toBe('false')
    await until('the runner', async () => (await fetch(`${fleet.router.url}/readyz`)).ok)
    await fleet.call(`/v1/runs/${data[0]!.id}/cancel`, { method: 'POST' })
    const { events } = await readSse(await fleet.call(`/v1/runs/${data[0]!.id}/events`))
    expect(events.at(-1)!.event).toBe('done')
  })
})

describe('a router that is told to stop', () => {
  it('stops in time although a peer holds on to a half-made upgrade', async () => {
    const fleet = await startFleet()
    const { port } = new URL(fleet.router.url)
    const socket = connect(Number(port), '127.0.0.1')
    await new Promise((resolve) => socket.once('connect', resolve))
    socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo\r\n')
    socket.on('error', () => undefined)
    const asked = performance.now()
    await fleet.close()
    expect(performance.now() - asked).toBeLessThan(6_000)
    socket.destroy()
  })
})
