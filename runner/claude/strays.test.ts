import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Costs } from './costs.ts'
import { Strays } from './strays.ts'
import { outputOf } from './turn.ts'

function atRest() {
  const logged: [string, Record<string, unknown>][] = []
  const strays = new Strays(new Costs(), (message, fields) => logged.push([message, fields]))
  const take = (...lines: unknown[]) => {
    for (const line of lines) {
      const read = { bytes: Buffer.from(typeof line === 'string' ? line : JSON.stringify(line)) }
      strays.take(read, outputOf(read))
    }
  }
  return { strays, take, logged }
}

describe('lines between two turns', () => {
  it('are logged by kind and number, once, and never with their text', () => {
    const name = fc.oneof(fc.string(), fc.constantFrom('system', 'task_started', 'x', undefined, 7, null))
    fc.assert(
      fc.property(fc.array(fc.record({ type: name, subtype: name, text: fc.string() }), { minLength: 1, maxLength: 20 }), (lines) => {
        const { strays, take, logged } = atRest()
        take(...lines)
        strays.tell()
        expect(logged).toHaveLength(1)
        const kinds = logged[0]?.[1]['kinds']
        expect(logged[0]?.[1]['lines']).toBe(lines.length)
        for (const kind of Object.keys(kinds as object)) expect(kind).toMatch(/^(?:no event|[a-z_]+(?:\/[a-z_]+)?)$/)
      }),
    )
  })

  it('are not logged where there are none', () => {
    const { strays, logged } = atRest()
    strays.tell()
    expect(logged).toEqual([])
  })

  it('are no trouble up to a hundred of them and a mebibyte', () => {
    const many = atRest()
    many.take(...Array.from({ length: 100 }, () => ({ type: 'x' })))
    expect(many.strays.trouble).toBeUndefined()
    many.take({ type: 'x' })
    expect(many.strays.trouble).toBe('it printed too much between two turns')
    const long = atRest()
    long.take('z'.repeat(1_048_576))
    expect(long.strays.trouble).toBeUndefined()
    long.take('')
    expect(long.strays.trouble).toBeUndefined()
    long.take('z')
    expect(long.strays.trouble).toBe('it printed too much between two turns')
  })

  it.each([
    [{ type: 'system', subtype: 'init' }, 'it began a turn of its own'],
    [{ type: 'assistant' }, 'it began a turn of its own'],
    [{ type: 'stream_event' }, 'it began a turn of its own'],
    [{ type: 'user' }, 'it began a turn of its own'],
    [{ type: 'result' }, 'it printed a result between two turns'],
    [{ type: 'result', origin: { kind: 'task-notification' } }, undefined],
    [{ type: 'system', subtype: 'status' }, undefined],
    [{ type: 'rate_limit_event' }, undefined],
  ])('%j is trouble: %s', (line, trouble) => {
    const { strays, take } = atRest()
    take(line)
    expect(strays.trouble).toBe(trouble)
  })
})
