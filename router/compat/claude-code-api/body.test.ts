import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fault } from '../../../shared/faults.ts'
import { readBody, type Asked } from './body.ts'

/** What was read, or the fault that says why not. Anything else that is thrown fails the test. */
function read(body: unknown): Asked | Fault {
  try {
    return readBody(body)
  } catch (error) {
    if (error instanceof Fault) return error
    throw error
  }
}

describe('a body of claude-code-api', () => {
  it('is read, or refused with a sentence about a part of it, for any JSON in any field', () => {
    const field = fc.constantFrom('prompt', 'session_id', 'session-id', 'dangerously-skip-permissions', 'allowedTools', 'allowed-tools', 'disallowedTools', 'workspace', 'system-prompt', 'on-disconnect', 'x')
    fc.assert(
      fc.property(field, fc.jsonValue(), (name, value) => {
        const said = read({ prompt: 'hello', [name]: value })
        expect(said instanceof Fault ? said.code === 'invalid_request' && said.message.startsWith('body') : typeof said.prompt === 'string').toBe(true)
      }),
    )
  })

  it('names tools that are never arguments', () => {
    const word = fc.oneof(fc.string(), fc.constantFrom('--yes', 'Read,--yes', 'Bash(a,b)', 'Bash(-x)'))
    fc.assert(
      fc.property(fc.array(word), (words) => {
        const said = read({ prompt: 'hello', allowedTools: words })
        const rules = said instanceof Fault ? [] : (said.cli.allowed_tools ?? [])
        expect(rules.filter((rule) => !/^[A-Za-z]/.test(rule))).toEqual([])
      }),
    )
  })

  it('takes a permission to skip for one only where it is said', () => {
    const modeOf = (value: unknown) => readBody({ prompt: 'x', 'dangerously-skip-permissions': value }).cli.permission_mode
    expect([true, 'true', 1].map(modeOf)).toEqual(Array(3).fill('bypassPermissions'))
    expect([false, 'false', 0, null, undefined].map(modeOf)).toEqual(Array(5).fill(undefined))
  })
})
