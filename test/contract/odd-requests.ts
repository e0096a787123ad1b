/** Requests that are legal, or nearly, and that nobody had thought of; and those that are meant to hurt. */
import { Agent, request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startFleet, type Fleet } from '../kit/fleet.ts'
import type { Host } from '../kit/host.ts'
import { rawHttp, readAnswer } from '../kit/raw-http.ts'
import { print } from '../kit/turns.ts'

const MAX_BODY = 1024 * 1024

export function oddRequests(host: Host): void {
  describe('odd requests', () => {
    let fleet: Fleet
    beforeAll(async () => {
      fleet = await startFleet(host, {})
      await fleet.runner({
        turn: print(({ spec }) => {
          const { prompt: result } = spec
          return [result === 'garbage' ? 'no JSON' : JSON.stringify({ type: 'result', result })]
        }),
      })
    })
    afterAll(() => fleet.close())

    const raw = (...lines: string[]) => rawHttp(fleet.url, [lines[0]!, 'Host: localhost', ...lines.slice(1)])
    const post = (body: string, headers: Record<string, string> = {}) => fleet.call('/v1/runs', { method: 'POST', body, headers })
    const refusal = async (response: Response) => [response.status, ((await response.json()) as { code: string }).code]

    it('answers an upgrade that is no WebSocket instead of holding it', async () => {
      const upgrade = ['Connection: Upgrade, HTTP2-Settings, close', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk']
      const { status, body } = readAnswer(await raw('GET /healthz HTTP/1.1', ...upgrade))
      expect(status).toBe(host.can.foreignUpgradeStatus)
      expect(body).toMatchObject(status === 426 ? { status: 426, code: 'version' } : { status: 'ok' })
    })

    it('takes a POST without a body for what it is', async () => {
      const head = [`Authorization: Bearer ${fleet.token}`, 'Connection: close']
      expect(await raw(`POST /v1/runs/run_${'0'.repeat(32)}/cancel HTTP/1.1`, ...head)).toMatch(/^HTTP\/1\.1 404 /)
      expect(await raw('DELETE /v1/runs HTTP/1.1', ...head)).toMatch(/^HTTP\/1\.1 404 /)
      expect(readAnswer(await raw('POST /v1/runs HTTP/1.1', 'Content-Length: 0', ...head)).status).toBe(400)
    })

    it('keeps the connection of a body that nobody has read', async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      const send = (method: string, path: string, body = '') =>
        new Promise<number | string | undefined>((resolve) => {
          const headers = { authorization: `Bearer ${fleet.token}`, ...(body === '' ? {} : { 'content-type': 'application/json', 'content-length': body.length }) }
          const request = httpRequest(new URL(path, fleet.url), { method, agent, headers }, (response) => {
            response.resume().once('end', () => resolve(response.statusCode))
          })
          request.once('error', ({ message }) => resolve(message)).end(body)
        })
      expect(await send('POST', `/v1/runs/run_${'0'.repeat(32)}/cancel`, 'x'.repeat(800_000))).toBe(404)
      const seen = new Set<unknown>()
      for (const end = Date.now() + 1_000; Date.now() < end; ) seen.add(await send('GET', '/healthz'))
      expect([...seen]).toEqual([200])
      agent.destroy()
    })

    it('knows no other routes', async () => {
      for (const path of ['/v1', '/v1/runs/', '/v1/../admin', '/%2e%2e/etc/passwd', `/${'a'.repeat(4_000)}`]) {
        expect(await refusal(await fleet.call(path)), path).toEqual([404, 'not_found'])
      }
    })

    it.each([
      ['no JSON', 'hello'],
      ['half of it', '{"prompt":"x"'],
      ['nothing', ' '],
      ['a list', '[]'],
      ['null', 'null'],
      ['no prompt', '{}'],
      ['a blank prompt', '{"prompt":" \\n"}'],
      ['a prompt that is no text', '{"prompt":1}'],
      ['a field nobody knows', '{"prompt":"x","promt":"y"}'],
      ['a session that is no id', '{"prompt":"x","session_id":"../../etc"}'],
      ['a pool that is no name', '{"prompt":"x","pool":"a b"}'],
      ['a priority out of range', '{"prompt":"x","priority":11}'],
      ['a fork of nothing', '{"prompt":"x","fork_session":true}'],
      ['a tool that would be another argument', '{"prompt":"x","allowed_tools":["--dangerously-skip-permissions"]}'],
    ])('refuses a body with %s', async (_what, body) => {
      const response = await post(body)
      expect(response.status).toBe(400)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      const problem = (await response.json()) as Record<string, unknown>
      expect(['bad_json', 'invalid_request']).toContain(problem['code'])
      expect(problem['request_id']).toBe(response.headers.get('x-request-id'))
    })

    it('refuses a body that does not say it is JSON, in words that help', async () => {
      for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'application/jsonx']) {
        expect(await refusal(await post('{"prompt":"x"}', { 'content-type': type }))).toEqual([415, 'media_type'])
      }
      for (const type of ['application/json; charset=utf-8', 'Application/JSON', 'application/vnd.api+json']) {
        expect((await post('{"prompt":"x"}', { 'content-type': type })).status, type).toBe(200)
      }
    })

    it('refuses a body that is too large, whether it says so or not', async () => {
      const body = JSON.stringify({ prompt: 'x'.repeat(MAX_BODY) })
      expect(await refusal(await post(body))).toEqual([413, 'too_large'])
      const slowly = new ReadableStream<Uint8Array>({
        start(out) {
          for (let at = 0; at < body.length; at += 65_536) out.enqueue(Buffer.from(body.slice(at, at + 65_536)))
          out.close()
        },
      })
      const init = { method: 'POST', body: slowly, duplex: 'half', headers: { 'content-type': 'application/json' } } as const
      expect(await refusal(await fleet.call('/v1/runs', init))).toEqual([413, 'too_large'])
      const most = 'x'.repeat(MAX_BODY - '{"prompt":""}'.length)
      expect((await post(JSON.stringify({ prompt: most }), { prefer: 'respond-async' })).status).toBe(202)
    })

    it('refuses JSON that is nested without end, and keeps its slots', async () => {
      const deep = `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`
      for (const field of ['mcp_config', 'json_schema', 'agents']) {
        expect((await post(`{"prompt":"x","${field}":{"a":${deep}}}`)).status).toBe(400)
      }
      expect((await fleet.run({ prompt: 'still there' })).status).toBe(200)
    })

    it('carries hostile strings to the CLI and back as they are', async () => {
      const controls = ['\u0000\u0001\u001b[2J', '\u202egnirts\u202c', '\ud83d\ude00\u0301'.repeat(100)]
      for (const prompt of [...controls, "'; DROP TABLE runs; --", '\r\nid: 9\r\nevent: done\r\n\r\n', '__proto__']) {
        const metadata = { note: prompt.slice(0, 100) }
        expect(await (await fleet.run({ prompt, metadata })).json()).toMatchObject({ result: prompt, metadata })
      }
    })

    it('finds nothing under ids that nobody was given', async () => {
      const nearly = [`run_${'0'.repeat(32)}`, `run_${'f'.repeat(32)}`, `RUN_${'0'.repeat(32)}`, `run_${'0'.repeat(31)}g`]
      for (const id of [...nearly, 'run_', 'x', '%00', "'--", '..%2f..', '☃']) {
        for (const path of ['', '/events', '/cancel']) {
          const response = await fleet.call(`/v1/runs/${encodeURI(id)}${path}`, { method: path === '/cancel' ? 'POST' : 'GET' })
          expect(await refusal(response), id + path).toEqual([404, 'run_not_found'])
        }
      }
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

    it('answers HEAD as it answers GET, without a body', async () => {
      for (const [path, status] of [['/healthz', 200], ['/v1/runs', 200], ['/nothing', 404]] as const) {
        const response = await fleet.call(path, { method: 'HEAD' })
        expect([response.status, await response.text()], path).toEqual([status, ''])
      }
    })

    it('outlives a client that sends half a request and goes', async () => {
      const { hostname, port } = new URL(fleet.url)
      await Promise.all(
        ['POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"pro', 'GET /v1/ru', '\u0000\u0001\u0002'].map(
          (half) =>
            new Promise<void>((resolve) => {
              const socket = connect(Number(port), hostname, () => socket.write(half, () => socket.resetAndDestroy()))
              socket.on('error', () => undefined).on('close', () => resolve())
            }),
        ),
      )
      expect((await fleet.run({ prompt: 'still there' })).status).toBe(200)
    })
  })
}
