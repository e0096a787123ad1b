import { posix } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Fault } from '../../../shared/faults.ts'
import { insideWorkspace, isHome } from './cwd.ts'
import { olderFields } from './rates.ts'
import { Ask, ConfigPage, ConfigParams } from './schemas.ts'
import { toolRules } from './tools.ts'
import { sayInvalid } from './words.ts'

const said = (schema: { safeParse(value: unknown): { error?: Parameters<typeof sayInvalid>[0] | undefined } }, value: unknown, part = 'json') => {
  const { error } = schema.safeParse(value)
  return error && sayInvalid(error, part).message
}

describe('a body that does not fit', () => {
  it.each([
    [{}, "body must have required property 'prompt'"],
    [[], 'body must be object'],
    [{ prompt: 5 }, 'body/prompt must be string'],
    [{ prompt: '' }, 'body/prompt must NOT have fewer than 1 characters'],
    [{ prompt: 'x'.repeat(50_001) }, 'body/prompt must NOT have more than 50000 characters'],
    [{ prompt: 'x', maxTurns: 0 }, 'body/maxTurns must be >= 1'],
    [{ prompt: 'x', maxTurns: 51 }, 'body/maxTurns must be <= 50'],
    [{ prompt: 'x', maxTurns: 1.5 }, 'body/maxTurns must be integer'],
    [{ prompt: 'x', maxTurns: 'many' }, 'body/maxTurns must be number'],
    [{ prompt: 'x', stream: 'perhaps' }, 'body/stream must be boolean'],
    [{ prompt: 'x', model: 'gpt' }, 'body/model must be equal to one of the allowed values'],
    [{ prompt: 'x', permissionMode: 'bypassPermissions' }, 'body/permissionMode must be equal to one of the allowed values'],
    [{ prompt: 'x', agent: 'No Agent' }, 'body/agent must match pattern "^[a-z0-9]+(-[a-z0-9]+)*$"'],
    [{ prompt: 'x', allowedTools: 5 }, 'body/allowedTools must match a schema in anyOf'],
    [{ prompt: 'x', jsonSchema: 'x' }, 'body/jsonSchema must be object'],
    [{ prompt: 'x', allowedTools: ['--help'] }, 'body/allowedTools/0 must match pattern'],
    [{ prompt: 'x', resume: 'X' }, 'body/resume must match pattern'],
  ])('is answered as Ajv would: %j', (body, sentence) => {
    expect(said(Ask, body)?.slice(0, sentence.length)).toBe(sentence)
  })

  it('is called by the name of its part', () => {
    expect(said(ConfigPage, { limit: '201' }, 'query')).toBe('querystring/limit must be <= 200')
    expect(said(ConfigParams, { name: 'A' }, 'param')).toBe('params/name must match pattern "^[a-z0-9]+(-[a-z0-9]+)*$"')
  })
})

describe('a body that fits', () => {
  it('may write numbers and flags as text, and nothing as null; what nobody knows is dropped', () => {
    const nothing = { cwd: null, agent: null, model: null, resume: null, allowedTools: null, jsonSchema: null, systemPrompt: null, permissionMode: null }
    expect(Ask.parse({ prompt: 'x', stream: 'true', maxTurns: '5', ...nothing, unknown: 1 })).toEqual({ prompt: 'x', stream: true, maxTurns: 5 })
    expect(Ask.parse({ prompt: 'x', stream: null, maxTurns: null })).toEqual({ prompt: 'x' })
    expect(ConfigPage.parse({})).toEqual({ limit: 50, offset: 0 })
    expect(ConfigPage.parse({ limit: '200', offset: '7' })).toEqual({ limit: 200, offset: 7 })
  })

  it('names tools in a list or in a line', () => {
    const tools = ['Read', 'Bash(git log:*)', 'Edit']
    for (const allowedTools of [tools, 'Read,Bash(git log:*) Edit', ['Read Bash(git log:*)', 'Edit,'], ' Read , Bash(git log:*),Edit']) {
      expect(Ask.parse({ prompt: 'x', allowedTools }).allowedTools).toEqual(tools)
    }
    expect(Ask.parse({ prompt: 'x', allowedTools: '' }).allowedTools).toEqual([])
  })
})

describe('tool rules in a line', () => {
  const bare = (text: string) => text.replaceAll(/[\s,]/g, '')

  it('lose nothing but what is between them', () => {
    const rule = fc.tuple(fc.stringMatching(/^[A-Z][a-z]{0,8}$/), fc.option(fc.stringMatching(/^[a-z0-9:* ,-]{0,12}$/), { nil: undefined }))
    const rules = fc.array(rule.map(([name, of]) => (of === undefined ? name : `${name}(${of})`)))
    fc.assert(fc.property(rules, fc.constantFrom(',', ' ', ', ', '\n'), (all, between) => {
      expect(toolRules(all.join(between))).toEqual(all)
    }))
    fc.assert(fc.property(fc.string(), (text) => {
      expect(bare(toolRules(text).join(''))).toBe(bare(text))
    }))
  })
})

describe('the directory of a run', () => {
  const refused = (path: string) => expect(() => insideWorkspace(path), path).toThrow(Fault)

  /** Undefined where it is refused for what it is. */
  const insideOrNot = (path: string) => {
    try {
      return insideWorkspace(path)
    } catch (error) {
      if (error instanceof Fault && error.code === 'cwd') return undefined
      throw error
    }
  }

  it('is inside the workspace', () => {
    for (const path of ['..', '../x', 'a/../..', 'a/../../b', '/', '/etc', '\\\\host\\x', 'C:\\x', 'c:x', '..\\x', 'a\0b', 'a\nb']) refused(path)
    for (const [path, plain] of [['', '.'], ['.', '.'], ['a', 'a'], ['a/../b', 'b'], ['./a//b/', 'a/b'], ['a/..', '.'], ['...', '...']] as const) {
      expect(insideWorkspace(path)).toBe(plain)
    }
  })

  it('never leads out of it, whatever it is made of', () => {
    const part = fc.constantFrom('..', '.', '', 'a', '/', '\\', 'b c', '~', 'C:', '...', '..a')
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), fc.constantFrom('/', '\\'), (parts, between) => {
        const name = insideOrNot(parts.join(between))
        if (name === undefined) return
        expect(posix.resolve('/w/o/r/k', name).concat('/').startsWith('/w/o/r/k/')).toBe(true)
        expect(posix.normalize(name)).toBe(name)
      }),
    )
  })

  it('of a session is known again by the name that it was begun with, and by nothing that is like it', () => {
    const home = { real: '/srv/a/b', name: 'a/b' }
    expect(['a/b', 'b', '.', 'a', '/srv/a/b'].filter((name) => isHome(name, home))).toEqual(['a/b'])
    expect(['a/b', '.'].filter((name) => isHome(name, { real: '/work', name: '.' }))).toEqual(['.'])
  })

  it('of a session that was begun elsewhere may be the workspace itself, and is no name that its path ends with', () => {
    expect(['a/b', 'b', '.'].filter((name) => isHome(name, { real: '/srv/a/b', name: undefined }))).toEqual(['.'])
    expect(['a', '.', 'b'].filter((name) => isHome(name, { real: 'a', name: undefined }))).toEqual(['a', '.'])
  })
})

describe('rate limits', () => {
  it('are said in the older words too, of the limit that is the nearest to its end', () => {
    const headers = new Headers({ ratelimit: '"token-write";r=3;t=9', 'ratelimit-policy': '"tenant-write";q=100;w=10, "token-write";q=5;w=10' })
    expect(olderFields(headers)).toEqual({ 'x-ratelimit-limit': '5', 'x-ratelimit-remaining': '3', 'x-ratelimit-reset': '9' })
    expect(olderFields(new Headers())).toEqual({})
  })
})
