import { afterEach, describe, expect, it } from 'vitest'
import { connect } from 'node:net'
import { z } from 'zod'
import { bytes, drop, error, hang, stall, startModel, text, toolUse, type Model, type Script } from './scripted.ts'

let model: Model | undefined
afterEach(async () => {
  await model?.close()
  model = undefined
})

async function start(script?: Script): Promise<Model> {
  model = await startModel(script)
  return model
}

function ask(url: string, body: object = {}, init: RequestInit = {}): Promise<Response> {
  const whole = { model: 'some-model', stream: true, messages: [{ role: 'user', content: 'hello' }], ...body }
  return fetch(`${url}/v1/messages?beta=true`, { method: 'POST', body: JSON.stringify(whole), ...init })
}

const Delta = z.looseObject({ delta: z.looseObject({ text: z.string().optional() }).optional() })
function textOf(sse: string): string {
  return [...sse.matchAll(/^data: (.*)$/gm)].map((line) => Delta.parse(JSON.parse(line[1] ?? '')).delta?.text ?? '').join('')
}

describe('the scripted model', () => {
  it('streams a text in the order of the Messages API', async () => {
    const { url } = await start(() => text('one two', { chunks: ['one ', 'two'] }))
    const sse = await (await ask(url)).text()
    expect([...sse.matchAll(/^event: (.*)$/gm)].map((line) => line[1])).toEqual([
      'message_start',
      'content_block_start',
      'content_block_delta',
      'content_block_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ])
    expect(textOf(sse)).toBe('one two')
  })

  it('answers as one JSON body when no stream is asked for', async () => {
    const { url } = await start(() => toolUse('Write', { file_path: 'a' }))
    const body: unknown = await (await ask(url, { stream: false })).json()
    expect(body).toMatchObject({
      stop_reason: 'tool_use',
      content: [{ type: 'tool_use', name: 'Write', input: { file_path: 'a' } }],
    })
  })

  it('counts main turns only and tells them from titles, token counts and the early connection', async () => {
    const counted: number[] = []
    const { url, requests, main } = await start((_, n) => {
      counted.push(n)
      return text('x')
    })
    await fetch(url, { method: 'HEAD' })
    await (await ask(url, { output_config: { format: { type: 'json_schema' } } })).text()
    await (await ask(url)).text()
    expect(await (await fetch(`${url}/v1/messages/count_tokens?beta=true`, { method: 'POST', body: '{}' })).json()).toEqual({
      input_tokens: 10,
    })
    expect((await fetch(`${url}/v1/other`)).status).toBe(404)
    await (await ask(url)).text()
    expect(requests.map((request) => request.kind)).toEqual(['head', 'side', 'main', 'count', 'unknown', 'main'])
    expect(counted).toEqual([1, 2])
    expect(main()[0]?.prompt).toBe('hello')
  })

  it('ends a TCP write inside a character when told to', async () => {
    const { url } = await start(() => text('a€b', { cutUtf8: true }))
    const chunks: Buffer[] = []
    const body = JSON.stringify({ model: 'm', stream: true, messages: [] })
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.on('data', (chunk) => chunks.push(chunk))
    socket.write(`POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    await new Promise((resolve) => socket.on('close', resolve))
    // One chunk of the body ends after the first byte of the euro sign, the next one begins with the other two.
    const all = Buffer.concat(chunks).toString('latin1')
    expect(all).toMatch(/a\u00e2\r\n[0-9a-f]+\r\n\u0082\u00acb/)
  })

  it('streams two megabytes whole and without dawdling', async () => {
    const long = '0123456789abcdef'.repeat(131_072)
    const { url } = await start(() => text(long))
    const began = performance.now()
    expect(textOf(await (await ask(url)).text())).toBe(long)
    expect(performance.now() - began).toBeLessThan(2_000)
  })

  it('answers errors with their status, type and headers', async () => {
    const { url } = await start(() => error(429, 'rate_limit_error', 'slow down', { 'retry-after': '120' }))
    const response = await ask(url)
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '120'])
    expect(await response.json()).toEqual({ type: 'error', error: { type: 'rate_limit_error', message: 'slow down' } })
  })

  it('shows a script that throws as an error that is not retried', async () => {
    const { url } = await start(() => {
      throw new Error('no more turns')
    })
    const response = await ask(url)
    expect([response.status, response.headers.get('x-should-retry')]).toEqual([500, 'false'])
    expect(await response.text()).toContain('no more turns')
  })

  it('hangs without headers, stalls after the first words, and cuts both on close', async () => {
    const started = await start((_, n) => (n === 1 ? hang() : stall('half')))
    const hung = ask(started.url).then(
      () => 'answered',
      () => 'cut',
    )
    await started.waitFor((request) => request.kind === 'main')
    const reader = (await ask(started.url)).body?.getReader()
    let seen = ''
    while (!seen.includes('half')) seen += new TextDecoder().decode((await reader?.read())?.value)
    await started.close()
    expect(await hung).toBe('cut')
    await expect(reader?.read()).rejects.toThrow('terminated')
  })

  it('sends raw bytes, drops connections, and takes a new script for what follows', async () => {
    const { url, script } = await start(() => bytes('event: nonsense\n\n'))
    expect(await (await ask(url)).text()).toBe('event: nonsense\n\n')
    script(() => drop())
    await expect(ask(url)).rejects.toThrow('fetch failed')
  })

  it('waits for a request that has yet to come, and says what it saw when none does', async () => {
    const { url, waitFor } = await start()
    const coming = waitFor((request) => request.prompt === 'hello')
    await ask(url)
    expect((await coming).kind).toBe('main')
    await expect(waitFor((request) => request.prompt === 'other', 10)).rejects.toThrow('POST /v1/messages')
  })
})
