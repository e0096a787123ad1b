import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ProviderReport } from '../../shared/grants.ts'
import { breakOff, bytes, drop, error, hang, stall, startModel, text, type Model, type Reply } from '../../test/model/scripted.ts'
import { until } from '../../test/kit/wait.ts'
import { systemClock } from '../clock.ts'
import { startGateway, type Gateway, type Seat } from './gateway.ts'
import type { Payer, Purse } from './purse.ts'

const RUN = `run_${'a'.repeat(32)}`
const SESSION = '0190a8c4-7c1e-4000-8000-000000000001'
const KEY = 'sk-the-key-of-a-provider'
const BODY = JSON.stringify({ model: 'some-model', stream: true, messages: [{ role: 'user', content: 'hello' }] })

describe('the gateway', () => {
  let a: Model
  let b: Model
  let gateway: Gateway
  let reports: ProviderReport[]
  let logged: string[]
  beforeEach(async () => {
    ;[a, b] = await Promise.all([startModel(() => text('from a')), startModel(() => text('from b'))])
    reports = []
    logged = []
    const log = (message: string, fields: object) => logged.push(`${message} ${JSON.stringify(fields)}`)
    gateway = await startGateway({ env: {}, clock: systemClock, report: (report) => reports.push(report), log })
  })
  afterEach(async () => {
    await gateway.close()
    await Promise.all([a.close(), b.close()])
  })

  const payer = (provider: string, url: string, more: Partial<Payer> = {}): Payer => ({
    provider,
    baseUrl: new URL(url),
    headers: { 'x-api-key': KEY },
    secrets: [KEY],
    modelMap: {},
    mayBePrivate: true,
    ...more,
  })
  const purse = (payers: readonly [Payer, ...Payer[]] = [payer('a', a.url), payer('b', b.url)], more: Partial<Purse> = {}): Purse => ({
    run: RUN,
    fence: 1,
    tenant: 'default',
    session: SESSION,
    payers,
    headersTimeoutMs: 5_000,
    stallMs: 60_000,
    account: { failureThreshold: 2, recoveryMs: 60_000 },
    ...more,
  })
  const begun = (given?: Purse): Seat => {
    const seat = gateway.seat(given ?? purse())
    seat.begin()
    return seat
  }
  const ask = (seat: Seat, init: RequestInit = {}, path = '/v1/messages?beta=true') =>
    fetch(seat.env.ANTHROPIC_BASE_URL + path, {
      method: 'POST',
      body: BODY,
      ...init,
      headers: { 'x-api-key': seat.env.ANTHROPIC_API_KEY, 'content-type': 'application/json', 'x-claude-code-session-id': SESSION, ...(init.headers as Record<string, string>) },
    })
  const said = async (response: Response) => /"text":"(from [ab])/.exec(await response.text())?.[1]

  it('puts the key of the provider in place of the token, and leaves the rest as it was', async () => {
    const seat = begun()
    expect(await said(await ask(seat, { headers: { 'anthropic-version': '2023-06-01', cookie: 'a=b' } }))).toBe('from a')
    const { headers, raw, path } = a.requests[0]!
    expect(headers).toMatchObject({ 'x-api-key': KEY, 'anthropic-version': '2023-06-01', host: new URL(a.url).host, 'accept-encoding': 'identity' })
    expect(headers).not.toHaveProperty('cookie')
    expect(JSON.stringify(headers)).not.toContain(seat.env.ANTHROPIC_API_KEY)
    expect([raw, path]).toEqual([BODY, '/v1/messages?beta=true'])
    expect(seat.env.ANTHROPIC_API_KEY).toMatch(/^[A-Za-z0-9_-]{43}$/)
  })

  it('puts paths behind that of the base URL, and out of it leads none', async () => {
    const seat = begun(purse([payer('a', `${a.url}/anthropic/`)]))
    await (await ask(seat, {}, '/v1/messages')).text()
    const { port } = new URL(seat.env.ANTHROPIC_BASE_URL)
    const climb = (target: string) =>
      new Promise<string>((resolve) => {
        const socket = connect(Number(port), '127.0.0.1', () => socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-api-key: ${seat.env.ANTHROPIC_API_KEY}\r\n\r\n`))
        let all = ''
        socket.on('data', (chunk) => (all += chunk.toString())).on('close', () => resolve(all.slice(9, 12)))
      })
    for (const target of ['/../../admin', '/x/%2e%2e/%2e%2e/admin']) await climb(target)
    expect(a.requests.map(({ path }) => path)).toEqual(['/anthropic/v1/messages', '/anthropic/admin', '/anthropic/admin'])
    expect([await climb('http://evil.example/'), await climb('*')]).toEqual(['400', '400'])
  })

  it('answers the early HEAD by itself', async () => {
    expect((await fetch(gateway.url, { method: 'HEAD' })).status).toBe(200)
    expect(a.requests).toEqual([])
  })

  const strangers: Record<string, string>[] = [{ 'x-api-key': '' }, { 'x-api-key': 'A'.repeat(43) }, { 'x-api-key': KEY }, { 'x-api-key': '', authorization: 'Bearer x' }]
  it.each(strangers)('knows nobody by %j', async (headers) => {
    const seat = begun()
    const response = await ask(seat, { headers })
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ type: 'error', error: { type: 'authentication_error' } })
    expect(a.requests).toEqual([])
  })

  it('opens nothing to a token before its turn, after it, and when its process is gone', async () => {
    const seat = gateway.seat(purse())
    expect((await ask(seat)).status).toBe(403)
    seat.begin()
    expect((await ask(seat)).status).toBe(200)
    await seat.end()
    const refused = await ask(seat)
    expect([refused.status, await refused.json()]).toEqual([403, { type: 'error', error: { type: 'permission_error', message: 'no turn is running' } }])
    seat.begin()
    await seat.leave()
    expect((await ask(seat)).status).toBe(401)
    expect(a.main()).toHaveLength(1)
  })

  it('keeps two runs apart', async () => {
    const [one, two] = [begun(purse([payer('a', a.url)])), begun(purse([payer('b', b.url, { headers: { authorization: 'Bearer other' } })], { run: `run_${'b'.repeat(32)}` }))]
    expect(await Promise.all([ask(one), ask(two)].map(async (response) => said(await response)))).toEqual(['from a', 'from b'])
    expect(a.requests[0]!.headers['x-api-key']).toBe(KEY)
    expect([b.requests[0]!.headers['x-api-key'], b.requests[0]!.headers.authorization]).toEqual([undefined, 'Bearer other'])
    expect(one.env.ANTHROPIC_API_KEY).not.toBe(two.env.ANTHROPIC_API_KEY)
    expect([(await one.end()).provider, (await two.end()).provider]).toEqual(['a', 'b'])
  })

  it('cuts what is under way when the turn ends, upstream as well', async () => {
    a.script(() => stall())
    const seat = begun()
    const response = await ask(seat)
    const read = response.text().then(
      () => 'whole',
      () => 'cut',
    )
    await until('the first words', () => a.main().length === 1)
    const metered = await seat.end()
    expect(await read).toBe('cut')
    expect(metered).toMatchObject({ requests: 1, tokens: { input_tokens: 12, output_tokens: 1 } })
    expect(reports).toMatchObject([{ outcome: 'cancelled', status: 200, tokens: { input_tokens: 12 } }])
  })

  it('ends a turn although the body of a request never comes', async () => {
    const seat = begun()
    const { port } = new URL(seat.env.ANTHROPIC_BASE_URL)
    const socket = connect(Number(port), '127.0.0.1')
    const closed = new Promise((resolve) => socket.on('close', resolve))
    await new Promise<void>((resolve) => {
      socket.write(`POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nExpect: 100-continue\r\nx-api-key: ${seat.env.ANTHROPIC_API_KEY}\r\n\r\n`)
      // The gateway is waiting for the body now.
      socket.once('data', () => resolve())
    })
    expect(await seat.end()).toMatchObject({ requests: 0 })
    await closed
    expect(logged).toEqual(['requests of a run were not of its session {"run":"' + RUN + '","requests":1}'])
  })

  it('lets go of the provider when the CLI does, and blames nobody', async () => {
    a.script(() => hang())
    const seat = begun()
    const stop = new AbortController()
    const response = ask(seat, { signal: stop.signal }).catch(() => 'gone')
    await until('the request', () => a.main().length === 1)
    stop.abort()
    expect(await response).toBe('gone')
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ provider: 'a', outcome: 'cancelled', status: null, latency_ms: null }])
    expect(b.requests).toEqual([])
  })

  it('passes a stream on as it comes, at the pace of the reader', async () => {
    a.script(() => text('x'.repeat(8 * 1024 * 1024), { chunks: 512 }))
    const seat = begun()
    const reader = (await ask(seat)).body!.getReader()
    const first = await reader.read()
    expect(new TextDecoder().decode(first.value)).toContain('message_start')
    // Nobody reads: the whole answer must not pile up here, nor be counted as passed on.
    await sleep(200)
    expect(reports).toEqual([])
    let bytesRead = first.value!.length
    for (let more = await reader.read(); !more.done; more = await reader.read()) bytesRead += more.value.length
    expect(bytesRead).toBeGreaterThan(8 * 1024 * 1024)
    await until('the report', () => reports.length === 1)
    expect(reports[0]).toMatchObject({ outcome: 'ok', tokens: { output_tokens: 34 } })
  })

  it('changes no byte of a request or an answer', async () => {
    const raw = Buffer.concat([Buffer.from('data: {"x":"'), Buffer.from([0, 255, 195, 40, 13, 10, 10, 13])])
    a.script(() => bytes(raw))
    const body = ' {"stream" :true, "n":1.50e+3, "model":"m", "messages":[ ] }\r\n'
    const [direct, through] = await Promise.all([`${a.url}/v1/messages`, undefined].map((url) => (url ? fetch(url, { method: 'POST', body }) : ask(begun(), { body }))))
    expect(Buffer.from(await through!.arrayBuffer())).toEqual(Buffer.from(await direct!.arrayBuffer()))
    expect(through!.headers.get('content-type')).toBe(direct!.headers.get('content-type'))
    expect(through!.headers.get('request-id')).toMatch(/^req_/)
    expect(a.main().map((request) => request.raw)).toEqual([body, body])
  })

  it('takes a request of 32 MB, and refuses one that is longer', async () => {
    const seat = begun()
    const body = (size: number) => JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content: 'x'.repeat(size) }] })
    const most = 32 * 1024 * 1024 - body(0).length
    expect((await ask(seat, { body: body(most) })).status).toBe(200)
    const refused = await ask(seat, { body: body(most + 1) })
    expect([refused.status, await refused.json()]).toMatchObject([413, { error: { type: 'request_too_large' } }])
  })

  describe('asks the next provider', () => {
    const troubles: readonly (readonly [string, Reply, string, number | null])[] = [
      ['529', error(529, 'overloaded_error', 'Overloaded'), 'overloaded', 529],
      ['500', error(500, 'api_error', 'x'), 'server', 500],
      ['401', error(401, 'authentication_error', 'x'), 'auth', 401],
      ['402', error(402, 'billing_error', 'x'), 'forbidden', 402],
      ['403', error(403, 'permission_error', 'x'), 'forbidden', 403],
      ['404 for a model', error(404, 'not_found_error', 'model: x'), 'not_found', 404],
      ['408', error(408, 'timeout_error', 'x'), 'timeout', 408],
      ['429', error(429, 'rate_limit_error', 'x', { 'retry-after': '7' }), 'rate_limited', 429],
      ['a redirect', error(307, 'api_error', 'x', { location: 'http://127.0.0.1:9/' }), 'server', 307],
      ['a connection that is reset', drop(), 'unreachable', null],
      ['silence', hang(), 'timeout', null],
    ]
    it.each(troubles)('after %s', async (_what, reply, outcome, status) => {
      a.script(() => reply)
      const seat = begun(purse(undefined, { headersTimeoutMs: 300 }))
      expect(await said(await ask(seat))).toBe('from b')
      expect(b.main()[0]!.raw).toBe(BODY)
      await until('both reports', () => reports.length === 2)
      expect(reports).toMatchObject([
        { run: RUN, fence: 1, provider: 'a', model: 'some-model', outcome, status, retry_after_ms: status === 429 ? 7_000 : null, tokens: null },
        { provider: 'b', outcome: 'ok', status: 200, tokens: { input_tokens: 12, output_tokens: 34 } },
      ])
      expect(await seat.end()).toMatchObject({ requests: 1, failovers: 1, provider: 'b' })
    })

    it('after a refused connection and an unknown name', async () => {
      await a.close()
      const seat = begun(purse([payer('x', 'http://no-such-host.invalid'), payer('a', a.url), payer('b', b.url)]))
      expect(await said(await ask(seat))).toBe('from b')
      await until('the reports', () => reports.length === 3)
      expect(reports.map(({ outcome }) => outcome)).toEqual(['unreachable', 'unreachable', 'ok'])
    })

    it('after an address that the owner does not allow', async () => {
      const seat = begun(purse([payer('a', a.url.replace('127.0.0.1', 'localhost'), { mayBePrivate: false }), payer('b', b.url)]))
      expect(await said(await ask(seat))).toBe('from b')
      await until('the reports', () => reports.length === 2)
      expect(reports[0]).toMatchObject({ outcome: 'refused_url', status: null })
      expect(a.requests).toEqual([])
    })
  })

  it.each([400, 404, 409, 413, 422])('passes %d on, blames nobody and asks nobody else', async (status) => {
    a.script(() => error(status, 'invalid_request_error', 'yours'))
    const seat = begun()
    const body = status === 404 ? '{}' : BODY
    const response = await ask(seat, { body }, status === 404 ? '/v1/nowhere' : undefined)
    expect(response.status).toBe(status)
    expect(await response.text()).toContain(status === 404 ? 'not scripted' : 'yours')
    expect(b.requests).toEqual([])
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ outcome: 'caller', status }])
  })

  describe('when nobody answers', () => {
    it('passes on what the last one said', async () => {
      a.script(() => error(529, 'overloaded_error', 'Overloaded', { 'x-should-retry': 'true' }))
      b.script(() => drop())
      const response = await ask(begun())
      expect([response.status, response.headers.get('x-should-retry'), await response.json()]).toEqual([529, 'true', { type: 'error', error: { type: 'overloaded_error', message: 'Overloaded' } }])
    })

    it('says who was out of reach, and that a retry may help', async () => {
      for (const model of [a, b]) model.script(() => drop())
      const response = await ask(begun())
      expect([response.status, response.headers.get('x-should-retry')]).toEqual([523, null])
      expect(await response.json()).toMatchObject({ type: 'error', error: { type: 'api_error', message: expect.stringContaining('provider b') } })
    })

    it('says that a provider took too long, after the time that it had', async () => {
      a.script(() => hang())
      const began = performance.now()
      const response = await ask(begun(purse([payer('a', a.url)], { headersTimeoutMs: 300 })))
      expect(response.status).toBe(504)
      expect(performance.now() - began).toBeLessThan(1_500)
      expect(await response.text()).toContain('300 ms')
    })

    it('names the rule of the owner, and that no retry helps', async () => {
      const response = await ask(begun(purse([payer('a', a.url, { mayBePrivate: false })])))
      expect([response.status, response.headers.get('x-should-retry')]).toEqual([523, 'false'])
      expect(await response.text()).toContain('allow_private_base_urls')
    })

    it('does not send the CLI after a redirect', async () => {
      a.script(() => error(302, 'api_error', 'x', { location: 'http://127.0.0.1:9/' }))
      const response = await ask(begun(purse([payer('a', a.url)])), { redirect: 'manual' })
      expect([response.status, response.headers.get('location')]).toEqual([502, null])
    })
  })

  it('never fails over once the answer has begun', async () => {
    a.script(() => breakOff('overloaded_error', 'Overloaded', 'half'))
    expect(await (await ask(begun())).text()).toContain('event: error')
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ outcome: 'overloaded', status: 200, tokens: { input_tokens: 12 } }])
    expect(b.requests).toEqual([])
  })

  it('does not end an answer in order that the provider broke off', async () => {
    a.script(() => async ({ response }) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('event: message_start\n', () => response.socket?.resetAndDestroy())
    })
    const response = await ask(begun())
    await expect(response.text()).rejects.toThrow('terminated')
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ outcome: 'unreachable', status: 200, tokens: null }])
    expect(b.requests).toEqual([])
  })

  it('breaks off an answer that has gone silent, and says so', async () => {
    a.script(() => stall('half'))
    const response = await ask(begun(purse([payer('a', a.url)], { stallMs: 300 })))
    await expect(response.text()).rejects.toThrow('terminated')
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ outcome: 'timeout', status: 200 }])
  })

  it('takes so many requests of a turn at once', async () => {
    a.script(() => hang())
    const seat = begun()
    const hanging = Array.from({ length: 64 }, () => ask(seat).catch(() => undefined))
    await until('all of them', () => a.main().length === 64)
    expect((await ask(seat)).status).toBe(429)
    await seat.end()
    await Promise.all(hanging)
  })

  it('reports an error behind a 200 as what it is, and passes its bytes on', async () => {
    const sse = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    a.script(() => bytes(sse))
    expect(await (await ask(begun())).text()).toBe(sse)
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ outcome: 'overloaded', status: 200 }])
  })

  it('takes a key out of an error that quotes it', async () => {
    a.script(() => error(400, 'invalid_request_error', `the key ${KEY} is odd`, { 'x-echo': KEY }))
    const response = await ask(begun())
    expect(JSON.stringify([...response.headers])).not.toContain(KEY)
    expect(await response.json()).toMatchObject({ error: { message: 'the key [redacted] is odd' } })
    expect(logged.join('\n')).not.toContain(KEY)
  })

  it('asks each provider for the model by its own name', async () => {
    a.script(() => error(500, 'api_error', 'x'))
    const body = BODY.replace('hello', 'the \\"model\\":\\"some-model\\" of mine')
    const seat = begun(purse([payer('a', a.url), payer('b', b.url, { modelMap: { 'some-model': 'other-name' } })]))
    expect(await said(await ask(seat, { body }))).toBe('from b')
    expect([a.main()[0]!.raw, b.main()[0]!.raw]).toEqual([body, body.replace('some-model', 'other-name')])
    await until('the reports', () => reports.length === 2)
    expect(reports.map(({ model }) => model)).toEqual(['some-model', 'other-name'])
  })

  describe('passes by a provider', () => {
    it('that has failed so often in a row, for all runs of the tenant', async () => {
      a.script(() => error(500, 'api_error', 'x'))
      for (let i = 0; i < 2; i++) await (await ask(begun())).text()
      expect(a.main()).toHaveLength(2)
      const seat = begun()
      expect(await said(await ask(seat))).toBe('from b')
      expect(a.main()).toHaveLength(2)
      expect((await seat.end()).failovers).toBe(0)
      await (await ask(begun(purse(undefined, { tenant: 'other' })))).text()
      expect(a.main()).toHaveLength(3)
    })

    it('that refused its key, until a later grant says otherwise', async () => {
      a.script(() => error(401, 'authentication_error', 'x'))
      await (await ask(begun())).text()
      a.script(() => text('from a'))
      expect(await said(await ask(begun()))).toBe('from b')
      gateway.told('default', { provider: 'a', env: {}, model_map: {} })
      expect(await said(await ask(begun()))).toBe('from a')
    })

    it('that the router holds for broken, but not the one that it chose all the same', async () => {
      // Nobody listens there.
      const three = () => begun(purse([payer('c', 'http://127.0.0.1:1'), payer('a', a.url), payer('b', b.url)]))
      gateway.told('default', { provider: 'a', env: {}, model_map: {}, open_ms: 60_000 })
      expect(await said(await ask(three()))).toBe('from b')
      gateway.told('default', { provider: 'a', env: {}, model_map: {}, open_models: { 'some-model': null } })
      expect(await said(await ask(three()))).toBe('from b')
      expect(a.requests).toEqual([])
      expect(await said(await ask(begun()))).toBe('from a')
    })

    it('unless there is nobody else', async () => {
      for (const provider of ['a', 'b']) gateway.told('default', { provider, env: {}, model_map: {}, open_ms: null })
      expect(await said(await ask(begun()))).toBe('from a')
    })
  })

  it('counts what a turn came to, and prices it', async () => {
    const prices = { '*': { input: 3, output: 15 } }
    const seat = begun(purse([payer('a', a.url, { prices })]))
    for (const stream of [true, false]) await (await ask(seat, { body: BODY.replace('true', String(stream)) })).text()
    await (await ask(seat, { body: '{}' }, '/v1/messages/count_tokens')).text()
    const tokens = { input_tokens: 24, output_tokens: 68, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
    expect(await seat.end()).toEqual({ requests: 3, tokens, cost_usd: 0.001092, provider: 'a', failovers: 0 })
    seat.begin()
    expect(await seat.end()).toMatchObject({ requests: 0, cost_usd: 0, provider: null })
  })

  it('does not know the cost when a part of it has no price or no count', async () => {
    const prices = { priced: { input: 3, output: 15 } }
    const seat = begun(purse([payer('a', a.url, { prices })]))
    await (await ask(seat, { body: BODY.replace('some-model', 'priced') })).text()
    await (await ask(seat)).text()
    expect(await seat.end()).toMatchObject({ cost_usd: null, tokens: { input_tokens: 24 } })
    a.script(() => bytes('event: ping\ndata: {"type":"ping"}\n\n'))
    seat.begin()
    await (await ask(seat, { body: BODY.replace('some-model', 'priced') })).text()
    expect(await seat.end()).toMatchObject({ cost_usd: null })
  })

  it('keeps no account of the machine’s own login, but counts', async () => {
    a.script(() => error(401, 'authentication_error', 'x'))
    const seat = begun(purse([payer('local', a.url)], { account: undefined }))
    expect((await ask(seat)).status).toBe(401)
    a.script(() => text('from a'))
    expect(await said(await ask(seat))).toBe('from a')
    expect(reports).toEqual([])
    expect(await seat.end()).toMatchObject({ requests: 2, cost_usd: null, provider: 'local' })
  })

  it('says that requests were not of the session, and serves them', async () => {
    const seat = begun()
    await (await ask(seat, { headers: { 'x-claude-code-session-id': 'another' } })).text()
    await seat.end()
    expect(logged.join('\n')).toContain('not of its session')
  })
})
