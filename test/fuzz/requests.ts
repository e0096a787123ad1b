/** Requests made from the OpenAPI document of a router: what it describes, and what it does not. */
import * as fc from 'fast-check'
import { BODIES } from '../contract/isolation-known.ts'
import type { Schema, Schemas } from './check.ts'
import { broken, fitting, hostile, hostileText, spoilt } from './values.ts'

export interface Operation {
  readonly method: string
  readonly path: string
  readonly security?: readonly object[]
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly required?: boolean; readonly schema: Schema }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, { readonly schema?: Schema }>> }>>
}

export interface Described {
  readonly operations: readonly Operation[]
  readonly schemas: Schemas
}

/** Whose token it carries. An operator is an admin of the tenant that runs the router. */
export type Caller = 'right' | 'admin' | 'operator' | 'without scope' | 'foreign' | 'nobody' | 'garbage'

/** `seen`: an id that an earlier answer had, by its number; what of it there is decides who sends it. */
export type PathValue = { readonly text: string } | { readonly seen: number }

export interface Request {
  readonly operation: Operation
  /** That of the operation, or another one, which nobody has described. */
  readonly method: string
  readonly path: Readonly<Record<string, PathValue>>
  readonly query: readonly (readonly [string, string])[]
  readonly headers: Readonly<Record<string, string>>
  readonly body: { readonly json: unknown } | { readonly text: string } | undefined
  readonly caller: Caller
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

export function parse(document: unknown): Described {
  const { paths, components } = document as { paths: Record<string, Record<string, Omit<Operation, 'method' | 'path'>>>; components: { schemas: Schemas } }
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => ({ ...described, path, method: method.toUpperCase() })),
  )
  return { operations, schemas: components.schemas }
}

export const anyRequest = ({ operations, schemas }: Described): fc.Arbitrary<Request> =>
  fc.oneof(...operations.map((operation) => requestOf(operation, schemas)))

function requestOf(operation: Operation, schemas: Schemas): fc.Arbitrary<Request> {
  const { parameters = [] } = operation
  const named = (where: string) => parameters.filter((parameter) => parameter.in === where)
  return fc.record({
    operation: fc.constant(operation),
    method: often(12, fc.constant(operation.method), fc.constantFrom(...METHODS)),
    path: fc.record(Object.fromEntries(named('path').map(({ name, schema }) => [name, pathValue(schema, schemas)]))),
    query: queryOf(named('query'), schemas),
    headers: headersOf(named('header'), schemas),
    body: bodyOf(operation, schemas),
    caller: callerOf(operation),
  })
}

/** The first one so many times as often as the second. */
const often = <A, B>(weight: number, first: fc.Arbitrary<A>, second: fc.Arbitrary<B>): fc.Arbitrary<A | B> =>
  fc.oneof({ weight, arbitrary: first }, { weight: 1, arbitrary: second })

function pathValue(schema: Schema, schemas: Schemas): fc.Arbitrary<PathValue> {
  const text = (one: fc.Arbitrary<unknown>) => one.map((value) => ({ text: String(value) }))
  return fc.oneof(
    { weight: 4, arbitrary: fc.nat({ max: 50 }).map((seen) => ({ seen })) },
    { weight: 2, arbitrary: text(fitting(schema, schemas)) },
    { weight: 1, arbitrary: text(hostileText) },
    { weight: 1, arbitrary: text(fc.constantFrom(`run_${'0'.repeat(32)}`, '00000000-0000-4000-8000-000000000000', 'default')) },
  )
}

function queryOf(parameters: NonNullable<Operation['parameters']>, schemas: Schemas): fc.Arbitrary<[string, string][]> {
  const one = parameters.map(({ name, required, schema }) =>
    fc.oneof(
      { weight: required ? 0 : 3, arbitrary: fc.constant([]) },
      { weight: 3, arbitrary: fitting(schema, schemas).map((value): [string, string][] => [[name, asText(value)]]) },
      { weight: 1, arbitrary: hostile.map((value): [string, string][] => [[name, asText(value)]]) },
      { weight: 1, arbitrary: fc.constant([[name, '1'], [name, '2']] as [string, string][]) },
    ),
  )
  const extra = often(14, fc.constant([] as [string, string][]), hostileText.map((text): [string, string][] => [['surprise', text]]))
  // With many of them at once, one is nearly always wrong.
  const some = fc.subarray(one.map((_, i) => i), { maxLength: Math.min(2, one.length) })
  return fc.tuple(some, extra, ...one).map(([kept, more, ...all]) => [...more, ...all.filter((_, i) => kept.includes(i) || parameters[i]?.required).flat()])
}

const asText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** Two of them and the longest URL are a head that HTTP servers take: past 16 KiB Node's answers 431, before there is a router. */
const MAX_HEADER = 3_000
/** What a header can hold at all; the rest never leaves a client. */
const asHeader = (text: string) => text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '').slice(0, MAX_HEADER).trim()
const headerText = hostileText.map(asHeader)

function headersOf(parameters: NonNullable<Operation['parameters']>, schemas: Schemas): fc.Arbitrary<Record<string, string>> {
  const described = Object.fromEntries(parameters.map(({ name, schema }) => [name, often(2, fitting(schema, schemas).map((value) => asHeader(asText(value))), headerText)]))
  return fc.record(
    {
      ...described,
      accept: fc.constantFrom('text/event-stream', 'application/json', '*/*', ''),
      prefer: fc.constantFrom('respond-async', 'wait=1', ''),
      'idempotency-key': often(2, fc.stringMatching(/^key-[0-9]$/), headerText),
      'last-event-id': often(2, fc.nat({ max: 5 }).map(String), headerText),
      'x-request-id': headerText,
      origin: fc.constantFrom('https://elsewhere.invalid', 'null'),
      'content-type': fc.constantFrom('text/plain', 'application/json; charset=latin1', 'application/xml', 'multipart/form-data', ''),
    },
    { requiredKeys: [] },
  ).chain((all) => {
    // Any of them would refuse most requests, so most requests have few.
    const rare = new Set(['origin', 'content-type'])
    return fc.tuple(fc.subarray(Object.keys(all), { maxLength: Math.min(2, Object.keys(all).length) }), fc.nat({ max: 9 })).map(([kept, n]) =>
      Object.fromEntries(kept.filter((name) => !rare.has(name) || n === 0).map((name) => [name, all[name as keyof typeof all] ?? ''])),
    )
  })
}

function bodyOf({ method, path, requestBody }: Operation, schemas: Schemas): fc.Arbitrary<Request['body']> {
  const schema = requestBody?.content['application/json']?.schema
  if (!schema) return often(15, fc.constant(undefined), broken.map((text) => ({ text })))
  const json = (values: fc.Arbitrary<unknown>) => values.map((value) => ({ json: value }))
  const made = fitting(schema, schemas)
  // A schema does not say everything: one body is known to be good.
  const known = BODIES[`${method.toLowerCase()} ${path}`]
  const good = known ? fc.constant(known) : made
  return fc.oneof(
    { weight: 4, arbitrary: json(good) },
    { weight: 3, arbitrary: json(made) },
    { weight: 3, arbitrary: json(spoilt(made)) },
    { weight: 3, arbitrary: json(spoilt(good)) },
    { weight: 1, arbitrary: json(hostile) },
    { weight: 1, arbitrary: broken.map((text) => ({ text })) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  )
}

function callerOf({ path, security }: Operation): fc.Arbitrary<Caller> {
  const right: Caller = path.startsWith('/admin/') ? 'admin' : 'right'
  if (security?.length === 0) return often(3, fc.constant<Caller>('nobody'), fc.constant<Caller>('garbage'))
  const others = fc.constantFrom<Caller>('without scope', 'foreign', 'nobody', 'garbage')
  return fc.oneof({ weight: 12, arbitrary: fc.constant(right) }, { weight: 1, arbitrary: fc.constant<Caller>('operator') }, { weight: 2, arbitrary: others })
}
