import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ask, BODY, gatewayRig, RUN, said, type GatewayRig } from '../../test/kit/gateway-rig.ts'
import { until } from '../../test/kit/wait.ts'
import { bytes, error, hang, stall, text } from '../../test/model/scripted.ts'
import { frame } from '../demo/messages-sse.ts'
import { mayAsk } from './allowed.ts'

const prices = { '*': { input: 15, output: 75 } }

/** The tools of a run have the token of its process, and may ask for what they like. */
describe('a tool at the gateway', () => {
  let rig: GatewayRig
  beforeEach(async () => {
    rig = await gatewayRig()
  })
  afterEach(() => rig.close())

  describe('asks for messages and models', () => {
    it.each([
      ['GET', '/v1/organizations/api_keys'],
      ['POST', '/v1/nothing'],
      ['POST', '/v1/messages/batches'],
      ['GET', '/v1/files'],
      ['DELETE', '/v1/messages'],
    ])('and is told here that %s %s is not there', async (method, path) => {
      const seat = rig.begun()
      const response = await ask(seat, { method, ...(method === 'GET' ? { body: undefined } : {}) }, path)
      expect([response.status, await response.json()]).toMatchObject([404, { type: 'error', error: { type: 'not_found_error' } }])
      expect([rig.a.requests, rig.b.requests, rig.reports, rig.headers, rig.logged]).toEqual([[], [], [], [], []])
      expect(await seat.end()).toMatchObject({ requests: 0, cost_usd: 0 })
    })

    it('and of what costs nothing no provider is blamed', async () => {
      const seat = rig.begun()
      // The models of the tests know no such route.
      for (let i = 0; i < 5; i++) expect((await ask(seat, { method: 'GET', body: undefined }, '/v1/models/claude-x')).status).toBe(404)
      expect((await ask(seat, {}, '/v1/messages/count_tokens?beta=true')).status).toBe(200)
      expect([rig.reports, rig.headers, rig.logged]).toEqual([[], [], []])
      expect(await said(await ask(seat))).toBe('from a')
    })
  })

  it('gets no model that the run may not use, under whatever spelling of the field', async () => {
    const [a, b] = [rig.payer('a', rig.a.url, { mayAsk: mayAsk(['claude-haiku-4-5'], {}) }), rig.payer('b', rig.b.url, { mayAsk: mayAsk(['claude-sonnet-4-5'], {}) })]
    const seat = rig.begun(rig.purse([a, b]))
    const asking = (body: string) => ask(seat, { body })
    expect(await said(await asking(BODY.replace('some-model', 'claude-sonnet-4-5')))).toBe('from b')
    const refused = await asking(BODY.replace('some-model', 'claude-opus-4-8'))
    expect([refused.status, refused.headers.get('x-should-retry')]).toEqual([403, 'false'])
    expect(await refused.json()).toEqual({ type: 'error', error: { type: 'permission_error', message: 'no provider of this run may be asked for the model claude-opus-4-8' } })
    for (const body of ['{"model":"claude-opus-4-8","model":"claude-haiku-4-5"}', '{"model":"claude-haiku-4-5","Model":"claude-opus-4-8"}', '{}', 'nonsense', '']) {
      expect([body, (await asking(body)).status]).toEqual([body, 403])
    }
    expect([rig.a.requests.length, rig.b.requests.length, rig.reports.length]).toEqual([0, 1, 1])
  })

  it('makes nobody look slow by asking for a long answer in one piece', async () => {
    rig.a.script(() => hang())
    const seat = rig.begun(rig.purse(undefined, { headersTimeoutMs: 200 }))
    for (let i = 0; i < 3; i++) expect((await ask(seat, { body: BODY.replace('true', 'false') })).status).toBe(200)
    expect(rig.reports.filter(({ provider }) => provider === 'a').map(({ outcome }) => outcome)).toEqual(['caller', 'caller', 'caller'])
    expect([rig.a.main().length, rig.b.main().length]).toEqual([3, 3])
  })

  it('does not confuse it with a model by the name of a property', async () => {
    expect(await said(await ask(rig.begun(), { body: BODY.replace('some-model', 'constructor') }))).toBe('from a')
    expect(rig.a.main()[0]!.body).toMatchObject({ model: 'constructor' })
  })

  describe('is held to the budget of its run', () => {
    const spending = (more: object = {}) => rig.begun(rig.purse([rig.payer('a', rig.a.url, { prices, ...more })], { maxBudgetUsd: 0.005 }))

    it('by what the answers cost, and not for what costs nothing', async () => {
      const seat = spending()
      // 12 and 34 tokens: 0.00273 USD each.
      for (let i = 0; i < 2; i++) expect((await ask(seat)).status).toBe(200)
      await until('the second answer is counted', () => rig.reports.length === 2)
      const refused = await ask(seat)
      expect([refused.status, refused.headers.get('x-should-retry')]).toEqual([402, 'false'])
      expect(await refused.json()).toMatchObject({ error: { type: 'billing_error', message: expect.stringContaining('the budget of this run is spent') } })
      expect((await ask(seat, {}, '/v1/messages/count_tokens')).status).toBe(200)
      expect(await seat.end()).toMatchObject({ requests: 3, cost_usd: 0.00546, known_usd: 0.00546 })
      expect(rig.a.main()).toHaveLength(2)
    })

    it('by what it lets go of before it has an answer', async () => {
      rig.a.script(() => hang())
      const seat = spending()
      const stop = new AbortController()
      // A thousand tokens of input, more or less.
      const asked = ask(seat, { body: BODY.replace('hello', 'x'.repeat(4_000)), signal: stop.signal }).catch(() => 'gone')
      await until('the request', () => rig.a.main().length === 1)
      stop.abort()
      expect(await asked).toBe('gone')
      await until('it is counted', () => rig.reports.length === 1)
      expect((await ask(seat)).status).toBe(402)
      expect(await seat.end()).toMatchObject({ cost_usd: null, known_usd: 0 })
    })

    it('by as much as it saw of a stream that it cuts, and what came before is still known', async () => {
      const seat = spending()
      await (await ask(seat)).text()
      rig.a.script(() => stall('x'.repeat(10_000)))
      const stop = new AbortController()
      const cut = await ask(seat, { signal: stop.signal })
      await cut.body!.getReader().read()
      stop.abort()
      await until('it is counted', () => rig.reports.length === 2)
      expect(rig.reports[1]).toMatchObject({ outcome: 'cancelled', tokens: { input_tokens: 12, output_tokens: 1 } })
      expect((await ask(seat)).status).toBe(402)
      const { cost_usd, known_usd } = await seat.end()
      expect(cost_usd).toBeNull()
      expect(known_usd).toBeCloseTo(0.00273 + 0.000255, 9)
    })

    it('not where there is no price list', async () => {
      const seat = spending({ prices: undefined })
      for (let i = 0; i < 5; i++) expect((await ask(seat)).status).toBe(200)
      expect(await seat.end()).toMatchObject({ cost_usd: null, known_usd: 0 })
    })
  })

  it('leaves the cost of an answer unknown that does not say its total', async () => {
    rig.a.script(() => bytes(frame('message_start', { message: { usage: { input_tokens: 10, output_tokens: 1 } } }) + frame('message_stop', {})))
    const seat = rig.begun(rig.purse([rig.payer('a', rig.a.url, { prices })]))
    await (await ask(seat)).text()
    expect(await seat.end()).toMatchObject({ cost_usd: null, known_usd: 0.000225 })
  })

  it('makes as much noise with failures as is good for the router and the log', async () => {
    rig.a.script(() => error(404, 'not_found_error', 'model'))
    const seat = rig.begun(rig.purse([rig.payer('a', rig.a.url)]))
    const began = performance.now()
    for (let i = 0; i < 200; i++) await (await ask(seat, { body: BODY.replace('some-model', `model-${i}`) })).text()
    const seconds = Math.floor((performance.now() - began) / 1_000) + 1
    await seat.end()
    expect(rig.reports.length).toBeLessThanOrEqual(20 * seconds)
    expect(rig.logged.length).toBeLessThanOrEqual(1 + Math.floor(seconds / 10))
    expect(rig.a.main()).toHaveLength(200)
  })

  it('holds so many bytes of requests, and no more, and then gives them back', async () => {
    const seat = rig.begun()
    const { port } = new URL(seat.env.ANTHROPIC_BASE_URL)
    const size = 24 * 1024 * 1024
    const half = (): Promise<() => Promise<void>> =>
      new Promise((resolve) => {
        const socket = connect(Number(port), '127.0.0.1')
        socket.on('error', () => undefined)
        socket.write(`POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: ${size + 1}\r\nx-api-key: ${seat.env.ANTHROPIC_API_KEY}\r\n\r\n`)
        const gone = () => new Promise<void>((over) => socket.once('close', () => over()).destroy())
        socket.write(Buffer.alloc(size, ' '), () => resolve(gone))
      })
    const held = [await half(), await half()]
    const body = BODY.replace('hello', 'x'.repeat(size))
    const refused = await ask(seat, { body })
    expect([refused.status, refused.headers.get('x-should-retry')]).toEqual([429, 'true'])
    expect(await said(await ask(seat))).toBe('from a')
    for (const gone of held) await gone()
    let status = 0
    for (let i = 0; i < 20 && status !== 200; i++) status = (await ask(seat, { body })).status
    expect(status).toBe(200)
  })
})

describe('what the router is told', () => {
  let rig: GatewayRig
  beforeEach(async () => {
    rig = await gatewayRig()
  })
  afterEach(() => rig.close())

  it('of a good answer when it begins, and again when it is over', async () => {
    rig.a.script(() => stall('half'))
    const seat = rig.begun(rig.purse([rig.payer('a', rig.a.url, { version: 7 })]))
    const response = await ask(seat)
    await until('the news', () => rig.headers.length === 1)
    const about = { run: RUN, fence: 1, provider: 'a', version: 7, model: 'some-model', status: 200, retry_after_ms: null, latency_ms: expect.any(Number) }
    expect(rig.headers).toEqual([{ ...about, stage: 'headers', outcome: 'ok', tokens: null }])
    expect(rig.reports).toEqual([])
    await seat.end()
    await expect(response.text()).rejects.toThrow('terminated')
    expect(rig.reports).toMatchObject([{ ...about, stage: 'end', outcome: 'cancelled', tokens: { input_tokens: 12 } }])
  })

  it('says nothing of another version of the provider', async () => {
    rig.a.script(() => error(401, 'authentication_error', 'the old key'))
    const both = (version: number) => rig.begun(rig.purse([rig.payer('a', rig.a.url, { version }), rig.payer('b', rig.b.url)]))
    expect(await said(await ask(both(1)))).toBe('from b')
    rig.a.script(() => text('from a'))
    expect(await said(await ask(both(1)))).toBe('from b')
    expect(await said(await ask(both(2)))).toBe('from a')
  })
})

describe('the failure that is passed on', () => {
  let rig: GatewayRig
  beforeEach(async () => {
    rig = await gatewayRig()
  })
  afterEach(() => rig.close())

  it.each([
    [529, 404, 529],
    [500, 403, 500],
    [429, 404, 429],
    [404, 529, 529],
    [404, 403, 404],
    [529, 500, 500],
  ])('of %d and then %d is %d', async (first, second, given) => {
    rig.a.script(() => error(first, 'api_error', 'x'))
    rig.b.script(() => error(second, 'api_error', 'x'))
    expect((await ask(rig.begun())).status).toBe(given)
  })
})
