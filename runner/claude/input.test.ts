import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { initializeLine, interruptLine, userLine } from './input.ts'

const anyText = fc.string({ unit: 'binary', maxLength: 60 })
const content = (line: string): string => (JSON.parse(line) as { message: { content: string } }).message.content

describe('a line to the CLI', () => {
  it('is one line, and gives the prompt back', () => {
    fc.assert(
      fc.property(anyText, (prompt) => {
        const line = userLine(prompt, 'id')
        expect(line.indexOf('\n')).toBe(line.length - 1)
        expect([prompt, `\n${prompt}`]).toContain(content(line))
      }),
    )
  })

  it('never begins with a slash, nor does it after blanks alone', () => {
    fc.assert(
      fc.property(fc.constantFrom('', ' ', '\n', '\t ', '\uFEFF', '\u00A0'), anyText, (blanks, rest) => {
        expect(content(userLine(`${blanks}/${rest}`, 'id'))).toBe(`\n${blanks}/${rest}`)
      }),
    )
    expect(content(userLine('what is a/b?', 'id'))).toBe('what is a/b?')
  })

  it('carries the uuid of a message and the id of a request', () => {
    expect(JSON.parse(userLine('hi', 'u-1'))).toEqual({
      type: 'user',
      message: { role: 'user', content: 'hi' },
      parent_tool_use_id: null,
      uuid: 'u-1',
    })
    const interrupt = { type: 'control_request', request_id: 'i-1', request: { subtype: 'interrupt' } }
    expect(JSON.parse(interruptLine('i-1'))).toEqual(interrupt)
  })

  it('says nothing of what the spec leaves out', () => {
    const spec = { tenant: 't', prompt: 'p', timeout_s: 1, session: { mode: 'new', id: 'x' } } as const
    expect(JSON.parse(initializeLine('1', spec))).toMatchObject({ request: { subtype: 'initialize' } })
    expect(initializeLine('1', spec)).not.toMatch(/ystemPrompt|agents|jsonSchema/)
    expect(initializeLine('1', { ...spec, system_prompt: '' })).toContain('"systemPrompt":""')
  })
})
