import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { answerBody, answerFrames, cutDeltas, frame } from '../demo/messages-sse.ts'
import { meter } from './usage.ts'

const SSE = 'text/event-stream; charset=utf-8'
const answer = { id: 'msg_1', model: 'm', blocks: [{ type: 'text' as const, deltas: cutDeltas('héllo €uro "usage":{"output_tokens":9}', 5) }], usage: { input_tokens: 12, output_tokens: 34 } }
const stream = Buffer.from([...answerFrames(answer)].join(''))
const counted = { input_tokens: 12, output_tokens: 34, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }

function read(contentType: string, ...chunks: (string | Uint8Array)[]) {
  const made = meter(contentType)
  for (const chunk of chunks) made.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
  made.end()
  const { tokens, trouble, complete } = made
  return { tokens, trouble, complete }
}

describe('the usage of an answer', () => {
  it('is read from a stream, wherever its bytes were cut', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 12 }), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), stream.length]
        const chunks = at.slice(1).map((end, i) => stream.subarray(at[i], end))
        expect(read(SSE, ...chunks)).toEqual({ tokens: counted, trouble: undefined, complete: true })
      }),
    )
  })

  it('is read from a JSON body', () => {
    expect(read('application/json', JSON.stringify(answerBody(answer))).tokens).toEqual(counted)
    expect(read('application/json', '{"input_tokens":10}').tokens).toBeNull()
  })

  it('takes the greater of two counts: some providers tell the input only at the end, others only at the beginning', () => {
    const start = frame('message_start', { message: { usage: { input_tokens: 0, output_tokens: 1, cache_read_input_tokens: 5 } } })
    const delta = frame('message_delta', { usage: { input_tokens: 7, output_tokens: 3, cache_read_input_tokens: 0 } })
    expect(read(SSE, start, delta).tokens).toEqual({ input_tokens: 7, output_tokens: 3, cache_creation_input_tokens: 0, cache_read_input_tokens: 5 })
  })

  it('is read from events without a name, and with unknown fields in another order', () => {
    expect(read(SSE, 'data: {"usage":{"output_tokens":3,"new":{}},"type":"message_delta"}\r\n\r\n').tokens).toMatchObject({ output_tokens: 3 })
  })

  it('of a stream that broke off is what was said until then', () => {
    expect(read(SSE, stream.subarray(0, stream.indexOf('event: content_block_delta')))).toEqual({ tokens: { ...counted, output_tokens: 1 }, trouble: undefined, complete: false })
  })

  it('is nothing where nothing is said, or where it cannot be read', () => {
    for (const text of ['', 'data: [DONE]\n\n', 'data: {"type":"message_delta","usage":"x"}\n\n', 'data: {"type":"message_delta","usage":{"output_tokens":-1}}', 'nonsense']) {
      expect(read(SSE, text).tokens ?? counted).toMatchObject({})
      expect(read('application/json', text).tokens).toBeNull()
    }
    expect(read('text/plain', stream).tokens).toBeNull()
  })

  it('knows an error behind a 200 by its event', () => {
    expect(read(SSE, frame('error', { error: { type: 'overloaded_error', message: 'x' } })).trouble).toBe('overloaded')
    expect(read(SSE, frame('error', { error: { type: 'invalid_request_error', message: 'x' } })).trouble).toBe('caller')
  })

  it('keeps no more than a few megabytes of what never ends', () => {
    const made = meter(SSE)
    const chunk = Buffer.alloc(1024 * 1024, 'x')
    made.push(Buffer.from('data: '))
    for (let i = 0; i < 64; i++) made.push(chunk)
    made.push(Buffer.from('\n\n'))
    made.push(stream)
    made.end()
    expect(made.tokens).toBeNull()
  })
})
