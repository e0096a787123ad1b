/**
 * Whether a value is what a schema of our OpenAPI document says: the part of JSON Schema that zod-openapi writes, and no
 * more. A keyword that it does not know fails, so that nothing is thought to be checked that is not.
 */
export interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly propertyNames?: Schema
  readonly items?: Schema | boolean
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly allOf?: readonly Schema[]
  readonly not?: Schema
  readonly minLength?: number
  readonly maxLength?: number
  readonly pattern?: string
  readonly format?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
  readonly exclusiveMaximum?: number
  readonly minItems?: number
  readonly maxItems?: number
}
export type Schemas = Readonly<Record<string, Schema>>

const KNOWN = new Set(
  `$ref type enum const properties required additionalProperties propertyNames items anyOf oneOf allOf not
  minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems
  description example examples default title discriminator contentEncoding`.split(/\s+/),
)

export function resolve(schema: Schema, schemas: Schemas): Schema {
  if (schema.$ref === undefined) return schema
  const found = schemas[schema.$ref.split('/').at(-1) ?? '']
  if (!found) throw new Error(`${schema.$ref} is not in the document`)
  return resolve(found, schemas)
}

/** What is wrong with it and where, or undefined. */
export function mismatch(given: Schema, value: unknown, schemas: Schemas, at = '$'): string | undefined {
  const schema = resolve(given, schemas)
  const unknown = Object.keys(schema).find((key) => !KNOWN.has(key))
  if (unknown !== undefined) throw new Error(`${at}: this check does not know the keyword ${unknown}`)
  const inner = (one: Schema, v: unknown, where = at) => mismatch(one, v, schemas, where)
  if (schema.type !== undefined && ![schema.type].flat().some((type) => isOf(type, value))) return `${at}: ${show(value)} is no ${String(schema.type)}`
  if (schema.enum && !schema.enum.includes(value)) return `${at}: ${show(value)} is none of ${schema.enum.join(', ')}`
  if ('const' in schema && schema.const !== value) return `${at}: ${show(value)} is not ${show(schema.const)}`
  for (const one of schema.allOf ?? []) {
    const wrong = inner(one, value)
    if (wrong !== undefined) return wrong
  }
  for (const choice of [schema.anyOf, schema.oneOf]) {
    const wrong = choice?.map((one) => inner(one, value))
    if (wrong && wrong.every((what) => what !== undefined)) return wrong.join(' | ')
  }
  if (schema.not && inner(schema.not, value) === undefined) return `${at}: ${show(value)} is what it must not be`
  if (typeof value === 'string') return wrongText(schema, value, at)
  if (typeof value === 'number') return wrongNumber(schema, value, at)
  if (Array.isArray(value)) return wrongList(schema, value, at, inner)
  return typeof value === 'object' && value !== null ? wrongObject(schema, value as Record<string, unknown>, at, inner) : undefined
}

type Inner = (one: Schema, value: unknown, at: string) => string | undefined
const show = (value: unknown) => JSON.stringify(value)?.slice(0, 120)

function isOf(type: string, value: unknown): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'integer') return Number.isInteger(value)
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value)
  return typeof value === type
}

function wrongText({ minLength = 0, maxLength = Infinity, pattern, format }: Schema, value: string, at: string): string | undefined {
  if (value.length < minLength || value.length > maxLength) return `${at}: a text of ${value.length} characters`
  if (pattern !== undefined && !new RegExp(pattern).test(value)) return `${at}: ${show(value)} does not match ${pattern}`
  if (format === 'date-time' && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value)) return `${at}: ${show(value)} is no time`
  return format === 'date' && !/^\d{4}-\d\d-\d\d$/.test(value) ? `${at}: ${show(value)} is no day` : undefined
}

function wrongNumber(schema: Schema, value: number, at: string): string | undefined {
  const { minimum = -Infinity, maximum = Infinity, exclusiveMinimum = -Infinity, exclusiveMaximum = Infinity } = schema
  return value < minimum || value > maximum || value <= exclusiveMinimum || value >= exclusiveMaximum ? `${at}: ${value} is out of range` : undefined
}

function wrongList({ items, minItems = 0, maxItems = Infinity }: Schema, value: unknown[], at: string, inner: Inner): string | undefined {
  if (value.length < minItems || value.length > maxItems) return `${at}: ${value.length} items`
  if (typeof items !== 'object') return undefined
  return value.map((one, i) => inner(items, one, `${at}[${i}]`)).find((wrong) => wrong !== undefined)
}

function wrongObject(schema: Schema, value: Record<string, unknown>, at: string, inner: Inner): string | undefined {
  const { properties = {}, required = [], additionalProperties = true } = schema
  const missing = required.find((key) => !Object.hasOwn(value, key))
  if (missing !== undefined) return `${at}: there is no ${missing}`
  for (const [key, one] of Object.entries(value)) {
    const its = Object.hasOwn(properties, key) ? properties[key] : additionalProperties
    if (its === false) return `${at}: ${key} should not be there`
    const wrong = typeof its === 'object' ? inner(its, one, `${at}.${key}`) : undefined
    if (wrong !== undefined) return wrong
  }
  return undefined
}
