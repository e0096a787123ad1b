import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RawMark } from '../../shared/marks.ts'
import { recordings } from '../../test/fixtures/cli/recorded.ts'
import { readOutput } from './output.ts'

const read = (line: unknown) => readOutput(Buffer.from(typeof line === 'string' ? line : JSON.stringify(line)))

describe('a line of the CLI', () => {
  it.each(recordings())('is understood in the recording $name ($version)', ({ name, lines, version }) => {
    const outputs = lines.map(readOutput)
    expect(outputs.filter((output) => output.kind === 'raw')).toEqual([])
    const news = outputs.flatMap((output) => (output.kind === 'event' && output.news ? [output.news] : []))
    expect(news.filter(({ type }) => type === 'result')).toHaveLength(1)
    const answers = outputs.flatMap((output) => (output.kind === 'control' ? [output.control] : []))
    expect(answers.every((answer) => answer.type === 'answer' && answer.error === undefined)).toBe(true)
    expect(name === 'unknown-session' || news.some((item) => item.type === 'init' && item.version === version)).toBe(true)
  })

  it('is an event when it is any JSON object, known or not', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (object) => {
        expect(read({ ...object, type: 'something_new' })).toEqual({ kind: 'event' })
      }),
    )
  })

  it('is raw when it is no JSON object, and keeps its bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const output = readOutput(bytes)
        if (output.kind !== 'raw') return
        const mark = RawMark.parse(output.mark)
        expect([...Buffer.from(mark.data, mark.encoding)]).toEqual([...bytes])
      }),
    )
    const lines = ['', 'not json', '[1]', 'null', '"text"', '\uFEFF{}', '{"a":1}\r', '{"a":', '{}{}']
    for (const line of lines) expect(read(line).kind).toBe('raw')
    expect(readOutput(Uint8Array.of(0x7b, 0xff, 0x7d))).toMatchObject({ kind: 'raw', mark: { encoding: 'base64' } })
  })

  it('that cannot travel as it is leaves only its size past 128 KiB', () => {
    const cap = 128 * 1024
    expect(read('x'.repeat(cap))).toMatchObject({ mark: { kind: 'raw' } })
    expect(read('x'.repeat(cap + 1))).toEqual({ kind: 'raw', mark: { kind: 'gap', reason: 'line_too_long', bytes: cap + 1 } })
  })

  it('is the driver’s when it is a control message or an echo', () => {
    const answer = { type: 'control_response', response: { subtype: 'success', request_id: 'r1', response: { version: '1' } } }
    expect(read(answer)).toEqual({ kind: 'control', control: { type: 'answer', id: 'r1', response: { version: '1' } } })
    const refused = { type: 'control_response', response: { subtype: 'error', request_id: 'r2', error: 'no' } }
    expect(read(refused)).toEqual({ kind: 'control', control: { type: 'answer', id: 'r2', response: {}, error: 'no' } })
    const asked = { type: 'control_request', request_id: 'a', request: { subtype: 'can_use_tool' } }
    expect(read(asked)).toEqual({ kind: 'control', control: { type: 'request', id: 'a' } })
    for (const line of [{ type: 'keep_alive' }, { type: 'control_cancel_request' }, { type: 'user', isReplay: true }]) {
      expect(read(line)).toEqual({ kind: 'control', control: { type: 'other' } })
    }
    expect(read({ type: 'user', message: {} })).toEqual({ kind: 'event' })
  })

  it('ends the turn only as a result without an origin', () => {
    expect(read({ type: 'result', is_error: false })).toMatchObject({ news: { type: 'result', result: { is_error: false } } })
    const own = { type: 'result', is_error: false, origin: { kind: 'task-notification' }, total_cost_usd: 0.5 }
    expect(read(own)).toMatchObject({ kind: 'event', news: { type: 'unasked', result: { total_cost_usd: 0.5 } } })
  })

  it('tells of a tool or a hook that was started', () => {
    const assistant = (...types: unknown[]) => read({ type: 'assistant', message: { content: types.map((type) => ({ type })) } })
    expect(assistant('text', 'tool_use')).toEqual({ kind: 'event', news: { type: 'tool', passes: false } })
    const uses = (...names: string[]) => read({ type: 'assistant', message: { content: names.map((name) => ({ type: 'tool_use', name })) } })
    expect(uses('Bash', 'mcp__tiny__add')).toMatchObject({ news: { passes: true } })
    for (const name of ['EnterWorktree', 'CronCreate', 'NotKnownYet']) expect(uses('Bash', name)).toMatchObject({ news: { passes: false } })
    for (const subtype of ['task_started', 'task_notification', 'hook_started', 'hook_response']) {
      expect(read({ type: 'system', subtype })).toEqual({ kind: 'event', news: { type: 'tool', passes: true } })
    }
    expect(assistant('text', 7, undefined)).toEqual({ kind: 'event' })
    for (const message of [undefined, 'text', { content: 'tool_use' }, { content: [null, 'tool_use'] }]) {
      expect(read({ type: 'assistant', message })).toEqual({ kind: 'event' })
    }
  })

  it('is an error when a result does not say that it is none', () => {
    expect(read({ type: 'result' })).toMatchObject({ news: { result: { is_error: true, total_cost_usd: 0 } } })
  })

  it('costs no more than a run can cost, whatever it says', () => {
    const forged = { type: 'result', total_cost_usd: 1e305, usage: { input_tokens: 1e300, output_tokens: 1e30, cache_read_input_tokens: -1 } }
    const usage = { input_tokens: 1e12, output_tokens: 1e12, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
    expect(read(forged)).toMatchObject({ news: { result: { total_cost_usd: 1_000_000, usage } } })
  })

  it('of a subagent that failed is no sign of how the turn ends', () => {
    const failed = { type: 'assistant', error: 'rate_limit' }
    expect(read({ ...failed, parent_tool_use_id: null })).toMatchObject({ news: { category: 'rate_limit' } })
    expect(read({ ...failed, parent_tool_use_id: 'toolu_1' })).toEqual({ kind: 'event' })
  })
})
