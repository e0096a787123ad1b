/** Values made from a schema: such as fit, such as nearly do, and such as somebody would send who wants to hurt. */
import * as fc from 'fast-check'
import { resolve, type Schema, type Schemas } from './check.ts'

/** Nothing outside of this machine is ever named: a webhook may be sent there. */
const URLS = ['https://hook.invalid/path', 'http://127.0.0.1:1/', 'https://[::1]/', 'ftp://hook.invalid', 'https://user:pass@hook.invalid/']
const MAX_DEPTH = 6

export const hostileText = fc.oneof(
  fc.constantFrom(
    '',
    ' ',
    '\0',
    'a\0b',
    '\ud800',
    'a\udfffb',
    '\u202egnirts\u202c',
    '../../etc/passwd',
    '..%2f..%2f',
    "' OR 1=1 --",
    "'; DROP TABLE runs; --",
    '__proto__',
    'constructor',
    '-1',
    '--help',
    '${1+1}',
    '\r\nset-cookie: a=b',
    '💥'.repeat(40),
    '1e999',
    'null',
    '*',
    '%',
  ),
  fc.integer({ min: 60, max: 70_000 }).map((n) => 'x'.repeat(n)),
  fc.string({ unit: 'binary', maxLength: 40 }),
)

export const hostile: fc.Arbitrary<unknown> = fc.oneof(
  hostileText,
  fc.constantFrom(null, true, false, 0, -1, 1.5, 1e308, -0, Number.MAX_SAFE_INTEGER, 2 ** 53),
  fc.constantFrom([], {}, [[]], { __proto__: null }, [null], { a: { b: {} } }),
  fc.jsonValue({ maxDepth: 2 }),
)

/** What a dialect takes as text and reads as JSON. */
const MCP_CONFIGS = [
  '{"mcpServers":{"a":{"command":"x"},"b":{"type":"http","url":"https://hook.invalid/"}}}',
  '{"mcpServers":{"__proto__":{"command":"x"}}}',
  '{"mcpServers":{"constructor":{"command":"x"},"toString":1}}',
  '{"__proto__":{"mcpServers":{}},"mcpServers":{"a":null}}',
  '{"mcpServers":[]}',
  '{"mcpServers":{}',
]
const mcpText = fc.constantFrom(...MCP_CONFIGS, 'github', '/etc/mcp.json')
const mcpObject = fc.constantFrom(...MCP_CONFIGS.slice(0, 5)).map((text): unknown => JSON.parse(text))
const mcpConfig = fc.oneof(mcpText, mcpObject, fc.array(mcpText, { minLength: 1, maxLength: 3 }))

/** Fits the schema, as far as a schema says it all. */
export function fitting(given: Schema, schemas: Schemas, depth = 0): fc.Arbitrary<unknown> {
  const schema = resolve(given, schemas)
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.enum) return fc.constantFrom(...schema.enum)
  const choices = schema.anyOf ?? schema.oneOf
  if (choices) return fc.oneof(...choices.map((one) => fitting(one, schemas, depth)))
  if (schema.allOf) {
    return fc.tuple(...schema.allOf.map((one) => fitting(one, schemas, depth))).map((all): unknown => Object.assign({}, ...all))
  }
  const types = [schema.type ?? 'any'].flat()
  return fc.oneof(...types.map((type) => ofType(type, schema, schemas, depth)))
}

function ofType(type: string, schema: Schema, schemas: Schemas, depth: number): fc.Arbitrary<unknown> {
  if (type === 'object') return fittingObject(schema, schemas, depth)
  if (type === 'array') {
    const { items, minItems = 0, maxItems = 3 } = schema
    const item = typeof items === 'object' && depth < MAX_DEPTH ? fitting(items, schemas, depth + 1) : fc.constant('x')
    return fc.array(item, { minLength: minItems, maxLength: Math.max(minItems, Math.min(maxItems, 3)) })
  }
  if (type === 'string') return fittingText(schema)
  if (type === 'boolean') return fc.boolean()
  if (type === 'null') return fc.constant(null)
  if (type === 'integer' || type === 'number') {
    const low = Math.ceil(schema.minimum ?? schema.exclusiveMinimum ?? -10)
    const high = Math.floor(schema.maximum ?? schema.exclusiveMaximum ?? low + 1_000)
    return fc.oneof(fc.constantFrom(low, high), fc.integer({ min: low, max: high }))
  }
  return fc.jsonValue({ maxDepth: 2 })
}

function fittingText({ pattern, format, minLength = 0, maxLength = 60 }: Schema): fc.Arbitrary<string> {
  if (format === 'uri') return fc.constantFrom(...URLS)
  if (format === 'date-time') return fc.constantFrom('2026-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z', '9999-12-31T23:59:59Z')
  if (format === 'date') return fc.constantFrom('2026-01-01', '1970-01-01', '9999-12-31')
  if (format === 'uuid') return fc.uuid()
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern)).map((text) => text.slice(0, maxLength))
  const most = Math.max(minLength, Math.min(maxLength, 60))
  const plain = fc.string({ minLength, maxLength: most })
  return maxLength < 100_000 ? fc.oneof({ weight: 8, arbitrary: plain }, { weight: 1, arbitrary: fc.constant('x'.repeat(maxLength)) }) : plain
}

function fittingObject(schema: Schema, schemas: Schemas, depth: number): fc.Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties } = schema
  if (depth >= MAX_DEPTH) return fc.constant({})
  const fields = Object.fromEntries(Object.entries(properties).map(([key, one]) => [key, fieldOf(key, fitting(one, schemas, depth + 1))]))
  // Most optional fields are left out: all of them at once would be refused for one of them.
  const optional = Object.keys(fields).filter((key) => !required.includes(key))
  const named = fc
    .subarray(optional, { maxLength: Math.min(3, optional.length) })
    .chain((kept) => fc.record(Object.fromEntries(Object.entries(fields).filter(([key]) => required.includes(key) || kept.includes(key)))))
  if (typeof additionalProperties !== 'object') return named
  const key = schema.propertyNames ? fittingText(resolve(schema.propertyNames, schemas)) : fc.stringMatching(/^[a-z]{1,8}$/)
  return fc.tuple(named, fc.dictionary(key, fitting(additionalProperties, schemas, depth + 1), { maxKeys: 2 })).map(([a, b]) => ({ ...(a as object), ...b }))
}

const fieldOf = (name: string, made: fc.Arbitrary<unknown>) => (name === 'mcp_config' ? fc.oneof(mcpConfig, made) : made)

/** The same with one thing of it wrong. */
export function spoilt(values: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.tuple(values, hostile, fc.nat(), fc.constantFrom('change', 'remove', 'add')).map(([value, bad, n, how]) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad
    const keys = Object.keys(value)
    const key = keys[n % Math.max(1, keys.length)] ?? 'prompt'
    if (how === 'remove') return Object.fromEntries(Object.entries(value).filter(([name]) => name !== key))
    return { ...value, [how === 'add' ? `${key}x` : key]: bad }
  })
}

/** Bodies that are no JSON, or too much of it. */
export const broken = fc.constantFrom(
  '',
  '{',
  '[]',
  'null',
  '"text"',
  '{"prompt":"x",}',
  '{"prompt":"x"}{"prompt":"y"}',
  '\ufeff{"prompt":"x"}',
  '{"__proto__":{"prompt":"x"},"constructor":1}',
  `${'['.repeat(20_000)}${']'.repeat(20_000)}`,
  `{"prompt":"x","metadata":${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}}`,
  `{"prompt":"${'x'.repeat(1_100_000)}"}`,
  '{"prompt":"\\ud800","prompt":"\\u0000"}',
)
