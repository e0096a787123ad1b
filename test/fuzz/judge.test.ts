import { describe, expect, it } from 'vitest'
import { mismatch, type Schema } from './check.ts'
import { verdict } from './judge.ts'
import type { Operation, Request } from './requests.ts'
import type { Answer } from './world.ts'

const schemas = { Thing: { type: 'object', properties: { id: { type: 'string', pattern: '^t' } }, required: ['id'] } }
const wrong = (schema: Schema, value: unknown) => mismatch(schema, value, schemas)

describe('the check of an answer', () => {
  it('takes what fits', () => {
    expect(wrong({ $ref: '#/components/schemas/Thing' }, { id: 't1', more: 1 })).toBeUndefined()
    expect(wrong({ type: ['string', 'null'] }, null)).toBeUndefined()
    expect(wrong({ anyOf: [{ type: 'integer' }, { const: 'x' }] }, 'x')).toBeUndefined()
    expect(wrong({ type: 'object', additionalProperties: { type: 'number' } }, { a: 1 })).toBeUndefined()
    expect(wrong({ type: 'string', format: 'date-time' }, '2026-01-01T00:00:00.000Z')).toBeUndefined()
  })

  it.each<[string, Schema, unknown]>([
    ['another type', { type: 'string' }, 1],
    ['a missing property', { $ref: '#/components/schemas/Thing' }, {}],
    ['a property of another type', { $ref: '#/components/schemas/Thing' }, { id: 'x' }],
    ['a property too many', { type: 'object', properties: {}, additionalProperties: false }, { a: 1 }],
    ['none of the choices', { oneOf: [{ type: 'integer' }, { type: 'null' }] }, 1.5],
    ['something below the least', { type: 'integer', exclusiveMinimum: 0 }, 0],
    ['a list with a wrong item', { type: 'array', items: { enum: ['a'] } }, ['a', 'b']],
    ['no time', { type: 'string', format: 'date-time' }, 'yesterday'],
  ])('refuses %s', (_what, schema, value) => {
    expect(wrong(schema, value)).toMatch(/^\$/)
  })

  it('does not pass over what it does not know', () => {
    expect(() => wrong({ multipleOf: 2 } as Schema, 3)).toThrow('multipleOf')
  })
})

describe('the judge', () => {
  const problem = { 'application/problem+json': { schema: { type: 'object', properties: {}, required: ['code'] } } }
  const operation: Operation = { method: 'GET', path: '/v1/things', responses: { 200: { content: { 'application/json': { schema: schemas.Thing } } }, 404: { content: problem } } }
  const request: Request = { operation, method: 'GET', path: {}, query: [], headers: {}, body: undefined, caller: 'right' }
  const answer = (status: number, text: string, type = 'application/problem+json', ms = 1): Answer => ({ status, type, text, ms, headers: new Headers() })
  const of = (given: Answer, more: Partial<Request> = {}) => verdict({ ...request, ...more }, given, { operations: [more.operation ?? operation], schemas })

  it('has nothing against what is documented', () => {
    expect(of(answer(200, '{"id":"t"}', 'application/json'))).toBeUndefined()
    expect(of(answer(404, '{"code":"not_found"}'))).toBeUndefined()
    expect(of(answer(404, '{"code":"not_found"}'), { method: 'PUT' })).toBeUndefined()
  })

  it.each([
    ['500', answer(500, '{"code":"internal"}')],
    ['a 503 that nobody explained', answer(503, '{"code":"storage"}')],
    ['a status that is not documented', answer(409, '{"code":"conflict"}')],
    ['another dialect', answer(404, '{"error":"no"}', 'application/json')],
    ['another type', answer(200, 'hello', 'text/plain')],
    ['another shape', answer(200, '{"id":1}', 'application/json')],
    ['no JSON', answer(200, '{', 'application/json')],
    ['an answer that came late', answer(200, '{"id":"t"}', 'application/json', 6_000)],
  ])('finds %s', (_what, given) => {
    expect(of(given)).toEqual(expect.any(String))
  })

  it('wants a dialect to keep to its own words', () => {
    const ask: Operation = { ...operation, path: '/ask', responses: { 404: { content: { ...problem, 'application/json': {} } } } }
    expect(of(answer(404, '{"code":"not_found"}'), { operation: ask })).toContain('another dialect')
    expect(of(answer(404, '{"error":{}}', 'application/json'), { operation: ask })).toBeUndefined()
  })
})
