import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fault } from '../../../shared/faults.ts'
import type { CliOptions } from '../../../shared/run-spec.ts'
import { checkFields, parseBody, type ErrorDetail, type Kind } from './pydantic.ts'
import { CHAT_FIELDS } from './schemas.ts'
import { wishOf } from './wish.ts'

const errorsOf = (work: () => unknown): ErrorDetail[] => {
  try {
    work()
  } catch (error) {
    if (error instanceof Fault && Array.isArray(error.extra['errors'])) return error.extra['errors'] as ErrorDetail[]
    throw error
  }
  return []
}
/** What the CLI is told by this body; nothing where it is refused. */
function cliOf(body: unknown): CliOptions {
  try {
    return wishOf(body).cli
  } catch (error) {
    if (error instanceof Fault) return {}
    throw error
  }
}
const good = { prompt: 'hello', cwd: '/work' }

describe('fields that are checked', () => {
  it('come out as they are, whatever else is in the body', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (others) => {
        const unknown = Object.fromEntries(Object.entries(others).filter(([name]) => !(name in CHAT_FIELDS)))
        expect(checkFields({ ...unknown, ...good, tools: ['Read'] }, CHAT_FIELDS)).toEqual({ ...good, tools: ['Read'] })
      }),
    )
  })

  it('either come out in their kinds or are named in the errors, for any JSON in any of them', () => {
    const isOf: Record<Kind, (value: unknown) => boolean> = {
      str: (value) => typeof value === 'string',
      bool: (value) => typeof value === 'boolean',
      'str|bool': (value) => typeof value === 'string' || typeof value === 'boolean',
      list: (value) => Array.isArray(value) && value.every((item) => typeof item === 'string'),
      dict: (value) => typeof value === 'object' && !Array.isArray(value),
    }
    const names = Object.keys(CHAT_FIELDS) as (keyof typeof CHAT_FIELDS)[]
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.jsonValue(), (name, value) => {
        const body = { ...good, [name]: value }
        const errors = errorsOf(() => checkFields(body, CHAT_FIELDS))
        expect(errors.every(({ loc }) => loc[0] === 'body' && loc[1] === name)).toBe(true)
        const read = errors.length > 0 ? undefined : checkFields(body, CHAT_FIELDS)[name]
        expect(read === undefined ? value === null || errors.length > 0 : isOf[CHAT_FIELDS[name].kind](read)).toBe(true)
      }),
    )
  })

  it.each([['yes', true], ['OFF', false], [1, true], [0, false], ['t', true], ['False', false]])('take %j for %s', (written, read) => {
    expect(checkFields({ ...good, verbose: written }, CHAT_FIELDS)['verbose']).toBe(read)
  })

  it('are told of at most 32 at once', () => {
    expect(errorsOf(() => checkFields({ ...good, tools: Array.from({ length: 100_000 }, () => 1) }, CHAT_FIELDS))).toHaveLength(32)
  })

  it('are told of without what was there, where that is too deep to be written down', () => {
    const deep = JSON.parse(`${'['.repeat(200_000)}${']'.repeat(200_000)}`) as unknown
    expect(errorsOf(() => checkFields({ ...good, prompt: deep }, CHAT_FIELDS))).toMatchObject([{ type: 'string_type', input: null }])
    expect(errorsOf(() => checkFields({ deep }, CHAT_FIELDS))).toMatchObject([{ type: 'missing', input: null }, { input: null }])
    expect(errorsOf(() => wishOf({ ...good, json_schema: { deep } }))).toMatchObject([{ type: 'value_error', loc: ['body', 'json_schema'], input: null }])
  })

  it('are no properties that every object has', () => {
    expect(errorsOf(() => checkFields(Object.create({ prompt: 'x', cwd: 'x' }), CHAT_FIELDS)).map(({ type }) => type)).toEqual(['missing', 'missing'])
  })
})

describe('a body', () => {
  it('is parsed, or is a list with one entry', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const errors = errorsOf(() => parseBody(text))
        expect(errors.every(({ type, loc }) => type === 'json_invalid' && loc[0] === 'body')).toBe(true)
      }),
    )
  })

  it('never makes a wish that has an argument of the CLI in it, nor anything but a fault', () => {
    const word = fc.oneof(fc.string(), fc.constantFrom('--yes', '-p', '--settings=/x', 'Bash(--x)', 'Read,--yes', '{"mcpServers":{}}', '../mcp.json'))
    const body = fc.record(
      { model: word, tools: fc.array(word), allowed_tools: fc.array(word), disallowed_tools: fc.array(word), mcp_config: fc.array(word), permission_mode: word },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(body, (fields) => {
        const { model, tools = [], allowed_tools = [], disallowed_tools = [], mcp_servers = [] } = cliOf({ ...good, ...fields })
        const words = [model ?? '', ...tools, ...allowed_tools, ...disallowed_tools, ...mcp_servers]
        expect(words.filter((one) => one.startsWith('-'))).toEqual([])
      }),
    )
  })
})
