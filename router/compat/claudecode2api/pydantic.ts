/**
 * The body of a request held against a table of fields the way FastAPI does it, with the errors that its clients read:
 * one entry for everything that is wrong, with the type, the place, a sentence and what was there instead.
 *
 * Only shapes are judged here, in pydantic's lax mode: `null` is as good as absent, and booleans may be written in words.
 * What the values mean is the caller's business.
 */
import { Fault } from '../../../shared/faults.ts'

export interface ErrorDetail {
  readonly type: string
  readonly loc: readonly (string | number)[]
  readonly msg: string
  readonly input: unknown
  readonly ctx?: Readonly<Record<string, unknown>>
}

export type Kind = 'str' | 'bool' | 'str|bool' | 'list' | 'dict'
export interface Field {
  readonly kind: Kind
  readonly required?: true
}

/** A list of a million numbers where strings belong would make an answer larger than any request. */
const MAX_ERRORS = 32

/** Far from where whoever writes it down again runs out of stack. */
const MAX_DEPTH = 64

/** What refuse.ts makes a 422 with a list of. */
export function unprocessable(errors: readonly ErrorDetail[]): Fault {
  const [first] = errors
  const shown = errors.slice(0, MAX_ERRORS).map((error) => (isDeep(error.input) ? { ...error, input: null } : error))
  return new Fault('invalid_request', first?.msg.slice(0, 512), { extra: { errors: shown } })
}

function isDeep(value: unknown): boolean {
  let level = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return true
    level = level.flatMap((one) => (typeof one === 'object' && one !== null ? (Object.values(one) as unknown[]) : []))
  }
  return false
}

/** Throws the fault of a body that is no JSON. An empty one is `undefined`. */
export function parseBody(text: string): unknown {
  if (text.trim() === '') return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    const at = Number(/position (\d+)/.exec(String(error))?.[1] ?? 0)
    throw unprocessable([{ type: 'json_invalid', loc: ['body', at], msg: 'JSON decode error', input: {}, ctx: { error: 'Expecting value' } }])
  }
}

/** The fields of the table that are there, with `null` left out. Throws the fault of everything that does not fit. */
export function checkFields(body: unknown, fields: Readonly<Record<string, Field>>): Record<string, unknown> {
  if (body === undefined || body === null) throw unprocessable([{ type: 'missing', loc: ['body'], msg: 'Field required', input: null }])
  if (typeof body !== 'object' || Array.isArray(body)) {
    const msg = 'Input should be a valid dictionary or object to extract fields from'
    throw unprocessable([{ type: 'model_attributes_type', loc: ['body'], msg, input: body }])
  }
  const errors: ErrorDetail[] = []
  const read: Record<string, unknown> = {}
  for (const [name, { kind, required }] of Object.entries(fields)) {
    const value: unknown = Object.hasOwn(body, name) ? (body as Record<string, unknown>)[name] : undefined
    const loc = ['body', name]
    if (value === undefined && required) errors.push({ type: 'missing', loc, msg: 'Field required', input: body })
    else if (value === null && required) errors.push(wrong('str', loc, value))
    else if (value !== undefined && value !== null) read[name] = readAs(kind, value, loc, errors)
  }
  if (errors.length > 0) throw unprocessable(errors)
  return read
}

function readAs(kind: Kind, value: unknown, loc: readonly (string | number)[], errors: ErrorDetail[]): unknown {
  const fail = (as: Exclude<Kind, 'str|bool'>, at = loc, input = value) => void errors.push(wrong(as, at, input))
  switch (kind) {
    case 'str':
      return typeof value === 'string' ? value : fail('str')
    case 'bool':
      return boolOf(value) ?? fail('bool')
    case 'str|bool':
      if (typeof value === 'string' || typeof value === 'boolean') return value
      fail('str', [...loc, 'str'])
      return boolOf(value) ?? fail('bool', [...loc, 'bool'])
    case 'dict':
      return typeof value === 'object' && !Array.isArray(value) ? value : fail('dict')
    case 'list':
      if (!Array.isArray(value)) return fail('list')
      for (const [i, item] of value.entries()) if (typeof item !== 'string' && errors.length < MAX_ERRORS) fail('str', [...loc, i], item)
      return value
  }
}

const SAYS: Record<Exclude<Kind, 'str|bool'>, readonly [type: string, msg: string]> = {
  str: ['string_type', 'Input should be a valid string'],
  bool: ['bool_type', 'Input should be a valid boolean'],
  list: ['list_type', 'Input should be a valid list'],
  dict: ['dict_type', 'Input should be a valid dictionary'],
}

function wrong(as: Exclude<Kind, 'str|bool'>, loc: readonly (string | number)[], input: unknown): ErrorDetail {
  // Whatever might have been read as one.
  if (as === 'bool' && (typeof input === 'string' || typeof input === 'number')) {
    return { type: 'bool_parsing', loc, msg: 'Input should be a valid boolean, unable to interpret input', input }
  }
  const [type, msg] = SAYS[as]
  return { type, loc, msg, input }
}

const TRUE = new Set(['1', 'on', 't', 'true', 'y', 'yes'])
const FALSE = new Set(['0', 'off', 'f', 'false', 'n', 'no'])

function boolOf(value: unknown): boolean | undefined {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  const word = String(value).toLowerCase()
  return TRUE.has(word) ? true : FALSE.has(word) ? false : undefined
}
