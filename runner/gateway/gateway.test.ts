import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ask, BODY, gatewayRig, KEY, RUN, said, type GatewayRig } from '../../test/kit/gateway-rig.ts'
import { until } from '../../test/kit/wait.ts'
import { bytes, error, hang, stall, text } from '../../test/model/scripted.ts'

describe('the gateway', () => {
  let rig: GatewayRig
  let a: GatewayRig['a']
  let b: GatewayRig['b']
  let gateway: GatewayRig['gateway']
  let reports: GatewayRig['reports']
  let logged: GatewayRig['logged']
  let payer: GatewayRig['payer']
  let purse: GatewayRig['purse']
  let begun: GatewayRig['begun']
  beforeEach(async () => {
    rig = await gatewayRig()
    ;({ a, b, gateway, reports, logged, payer, purse, begun } = rig)
  })
  afterEach(() => rig.close())

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
    for (const target of ['/../../v1/models', '/x/%2e%2e/%2e%2e/v1/models']) await climb(target)
    expect([await climb('/v1/models/../../admin'), await climb('/v1/messages/%2e%2e/%2e%2e/admin')]).toEqual(['404', '404'])
    expect(a.requests.map(({ path }) => path)).toEqual(['/anthropic/v1/messages', '/anthropic/v1/models', '/anthropic/v1/models'])
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
    const seat = gateway.seat(purse().tenant)
    expect((await ask(seat)).status).toBe(403)
    seat.begin(purse())
    expect((await ask(seat)).status).toBe(200)
    await seat.end()
    const refused = await ask(seat)
    expect([refused.status, await refused.json()]).toEqual([403, { type: 'error', error: { type: 'permission_error', message: 'no turn is running' } }])
    seat.begin(purse())
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

  it('takes so many requests of a turn at once', async () => {
    a.script(() => hang())
    const seat = begun()
    const hanging = Array.from({ length: 64 }, () => ask(seat).catch(() => undefined))
    await until('all of them', () => a.main().length === 64)
    expect((await ask(seat)).status).toBe(429)
    await seat.end()
    await Promise.all(hanging)
  })

  it('takes a key out of an error that quotes it', async () => {
    a.script(() => error(400, 'invalid_request_error', `the key ${KEY} is odd`, { 'x-echo': KEY }))
    const response = await ask(begun())
    expect(JSON.stringify([...response.headers])).not.toContain(KEY)
    expect(await response.json()).toMatchObject({ error: { message: 'the key [redacted] is odd' } })
    expect(logged.join('\n')).not.toContain(KEY)
  })

  it('counts what a turn came to, and prices it', async () => {
    const prices = { '*': { input: 3, output: 15 } }
    const seat = begun(purse([payer('a', a.url, { prices })]))
    for (const stream of [true, false]) await (await ask(seat, { body: BODY.replace('true', String(stream)) })).text()
    await (await ask(seat, { body: '{}' }, '/v1/messages/count_tokens')).text()
    const tokens = { input_tokens: 24, output_tokens: 68, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
    expect(await seat.end()).toEqual({ requests: 3, tokens, cost_usd: 0.001092, known_usd: 0.001092, provider: 'a', failovers: 0 })
    seat.begin(purse())
    expect(await seat.end()).toMatchObject({ requests: 0, cost_usd: 0, provider: null })
  })

  it('does not know the cost when a part of it has no price or no count', async () => {
    const prices = { priced: { input: 3, output: 15 } }
    const seat = begun(purse([payer('a', a.url, { prices })]))
    await (await ask(seat, { body: BODY.replace('some-model', 'priced') })).text()
    await (await ask(seat)).text()
    expect(await seat.end()).toMatchObject({ cost_usd: null, tokens: { input_tokens: 24 } })
    a.script(() => bytes('event: ping\ndata: {"type":"ping"}\n\n'))
    seat.begin(purse([payer('a', a.url, { prices })]))
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
