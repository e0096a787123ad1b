import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ask, BODY, gatewayRig, RUN, said, type GatewayRig } from '../../test/kit/gateway-rig.ts'
import { until } from '../../test/kit/wait.ts'
import { breakOff, bytes, drop, error, hang, stall, text, type Reply } from '../../test/model/scripted.ts'

describe('a request behind the gateway', () => {
  let rig: GatewayRig
  let a: GatewayRig['a']
  let b: GatewayRig['b']
  let gateway: GatewayRig['gateway']
  let reports: GatewayRig['reports']
  let payer: GatewayRig['payer']
  let purse: GatewayRig['purse']
  let begun: GatewayRig['begun']
  beforeEach(async () => {
    rig = await gatewayRig()
    ;({ a, b, gateway, reports, payer, purse, begun } = rig)
  })
  afterEach(() => rig.close())

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
    // Without a model it is the path that is not there.
    const body = status === 404 ? '{}' : BODY
    const response = await ask(seat, { body })
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

  it('reports an error behind a 200 as what it is, and passes its bytes on', async () => {
    const sse = 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    a.script(() => bytes(sse))
    expect(await (await ask(begun())).text()).toBe(sse)
    await until('the report', () => reports.length === 1)
    expect(reports).toMatchObject([{ outcome: 'overloaded', status: 200 }])
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
      gateway.told('default', { provider: 'a', version: 1, models: null, env: {}, model_map: {} })
      expect(await said(await ask(begun()))).toBe('from a')
    })

    it('that the router holds for broken, but not the one that it chose all the same', async () => {
      // Nobody listens there.
      const three = () => begun(purse([payer('c', 'http://127.0.0.1:1'), payer('a', a.url), payer('b', b.url)]))
      gateway.told('default', { provider: 'a', version: 1, models: null, env: {}, model_map: {}, open_ms: 60_000 })
      expect(await said(await ask(three()))).toBe('from b')
      gateway.told('default', { provider: 'a', version: 1, models: null, env: {}, model_map: {}, open_models: { 'some-model': null } })
      expect(await said(await ask(three()))).toBe('from b')
      expect(a.requests).toEqual([])
      expect(await said(await ask(begun()))).toBe('from a')
    })

    it('unless there is nobody else', async () => {
      for (const provider of ['a', 'b']) gateway.told('default', { provider, version: 1, models: null, env: {}, model_map: {}, open_ms: null })
      expect(await said(await ask(begun()))).toBe('from a')
    })
  })
})
