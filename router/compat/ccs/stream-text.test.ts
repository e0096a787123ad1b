import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { uuidOfRun } from '../../../shared/ids.ts'
import { prefixOf, streamId } from './stream.ts'
import { StreamText } from './stream-text.ts'

const delta = (text: unknown, more: object = {}) => JSON.stringify({ type: 'stream_event', event: { type: 'content_block_delta', delta: { type: 'text_delta', text } }, ...more })
const whole = (...texts: unknown[]) => JSON.stringify({ type: 'assistant', message: { content: texts.map((text) => ({ type: 'text', text })) } })
const read = (...lines: string[]) => {
  const text = new StreamText()
  for (const line of lines) text.add(line)
  return text.value
}

describe('the text of a stream', () => {
  it('is that of its pieces, and of whole messages only where there are no pieces', () => {
    expect(read(delta('Hel'), delta('lo'), whole('Hello'))).toBe('Hello')
    expect(read(whole('Hel'), '{"type":"user"}', whole('lo', ' there'))).toBe('Hello there')
    expect(read('{"type":"system"}', '')).toBe('')
  })

  it('has nothing of subagents, tools and thoughts', () => {
    expect(read(delta('a'), delta('no', { parent_tool_use_id: 'toolu_1' }), delta('b', { parent_tool_use_id: null }))).toBe('ab')
    expect(read('{"type":"assistant","message":{"content":[{"type":"tool_use","input":{"text":"no"}},{"type":"thinking","thinking":"no"}]}}')).toBe('')
    expect(read('{"type":"stream_event","event":{"delta":{"type":"thinking_delta","thinking":"text_delta"}}}')).toBe('')
  })

  it('is there for every text, cut anywhere', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), (pieces) => {
        expect(read(...pieces.map((piece) => delta(piece)))).toBe(pieces.join(''))
      }),
    )
  })

  it('is not put off by lines that are like nothing the CLI prints', () => {
    const odd = fc.oneof(fc.json(), fc.string(), fc.constantFrom('{"type":"assistant"', '{"type":"assistant","message":null}', '{"type":"assistant","message":{"content":[null,1]}}', delta(5), delta(null)))
    const wrapped = fc.json().map((json) => `{"type":"assistant","message":${json}}`)
    fc.assert(
      fc.property(fc.array(fc.oneof(odd, wrapped)), (lines) => {
        expect(read(...lines)).toBeTypeOf('string')
      }),
    )
  })
})

describe('names', () => {
  it('lead back to the run that they are made of', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: 32, maxLength: 32 }), (digits) => {
        const run = `run_${digits}`
        expect(streamId(run)).toMatch(/^stream_[0-9a-f]{16}$/)
        expect(run.startsWith(prefixOf(streamId(run))!)).toBe(true)
        expect(`run_${uuidOfRun(run).replaceAll('-', '')}`).toBe(run)
      }),
    )
  })

  it('that nobody was given lead nowhere', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        expect(prefixOf(name)).toBeUndefined()
      }),
    )
  })
})
