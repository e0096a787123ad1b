/**
 * `/openapi.json`: what every route said of itself when it was made, and what is true of all of them: an id for each
 * operation, the ways to say who one is, and the answers that come from in front of the routes.
 *
 * Dialects say no in a shape of their own: what they leave out is filled in with that.
 */
import type { OpenAPIHono } from '@hono/zod-openapi'
import { VERSION } from '../../shared/version.ts'
import type { AppEnv } from '../ports.ts'
import { strangersProblems } from './run-schemas.ts'

const SCHEMES = {
  token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'A token of this router or of an issuer that it trusts, or a key of an older server.' },
  apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key', description: 'The same, in the header that some clients have for it.' },
  basic: { type: 'http', scheme: 'basic', description: 'The same as the password, beside any name; or a name and a password of an older server.' },
} as const

const INFO = {
  openapi: '3.1.0',
  info: { title: 'Runyard', version: VERSION, description: 'Your own API, your own machines, your own provider.' },
  security: Object.keys(SCHEMES).map((name) => ({ [name]: [] })),
}

interface Body {
  schema?: { $ref?: string; required?: string[] }
  example?: unknown
}
interface Operation {
  operationId?: string
  requestBody?: { content: Record<string, Body> }
  responses: Record<string, { description: string; content?: object; headers?: object }>
}
type Schemas = Record<string, { required?: string[] }>
type Paths = Record<string, Record<string, Operation>>

/** To be called when every route is mounted. `isDialect`: paths whose refusals are in the words of another server. */
export function serveDocument(app: OpenAPIHono<AppEnv>, isDialect: (path: string) => boolean): void {
  for (const [name, scheme] of Object.entries(SCHEMES)) app.openAPIRegistry.registerComponent('securitySchemes', name, scheme)
  app.openAPIRegistry.registerPath({
    method: 'get',
    path: '/openapi.json',
    tags: ['operations'],
    summary: 'This document',
    security: [],
    responses: { 200: { description: 'OpenAPI 3.1.', content: { 'application/json': { schema: { type: 'object' } } } } },
  })
  describePages(app)
  let text: string | undefined
  app.get('/openapi.json', (c) => {
    text ??= JSON.stringify(completed(app.getOpenAPI31Document(INFO), isDialect))
    return c.body(text, 200, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-cache' })
  })
}

function completed<D extends object>(document: D, isDialect: (path: string) => boolean): D {
  const { paths = {}, components } = document as { paths?: Paths; components?: { schemas?: Schemas } }
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      operation.operationId ??= operationId(method, path)
      const { responses, requestBody } = operation
      exemplify(requestBody?.content['application/json'], components?.schemas ?? {})
      for (const response of Object.values(responses)) if (response.content && STREAM in response.content) response.headers = { ...STREAMED, ...response.headers }
      const content = isDialect(path) ? SHAPED.map((status) => responses[status]?.content).find((known) => known) : PROBLEM
      if (!content) continue
      for (const [status, { description }] of Object.entries(strangersProblems)) responses[status] ??= { description, content }
      for (const [status, response] of Object.entries(responses)) if (Number(status) >= 400) response.content ??= content
      if (isDialect(path)) responses['404'] = switchedOff(responses['404'])
    }
  }
  return document
}

const STREAM = 'text/event-stream'
const STREAMED = { 'X-Run-Id': { description: 'The run that is streamed.', schema: { type: 'string' } } }

/** What a page that tries requests out fills in, in place of every field at once: what a run cannot do without. */
const FILLED_IN: Readonly<Record<string, unknown>> = { prompt: 'Say hello.', prompts: ['Say hello.'], items: [{ prompt: 'Say hello.' }], cwd: '.' }

function exemplify(body: Body | undefined, schemas: Schemas): void {
  const schema = body?.schema?.$ref === undefined ? body?.schema : schemas[body.schema.$ref.split('/').at(-1) ?? '']
  const required = schema?.required ?? []
  if (!body || required.length === 0 || !required.every((field) => field in FILLED_IN)) return
  body.example ??= Object.fromEntries(required.map((field) => [field, FILLED_IN[field]]))
}

/** Paths of a dialect that an operator has switched off are nobody's, so nobody's words say so. */
const switchedOff = (known: Operation['responses'][string] | undefined) => ({
  description: `${known?.description ?? 'No such path.'} In our own words: this dialect is switched off.`,
  content: { ...known?.content, ...PROBLEM },
})

const html = { 'text/html': { schema: { type: 'string' as const } } }
/** What is there for browsers: the page, and where older servers have theirs. */
function describePages({ openAPIRegistry }: OpenAPIHono<AppEnv>): void {
  const page = { method: 'get' as const, tags: ['operations'], security: [] }
  openAPIRegistry.registerPath({ ...page, path: '/docs', summary: 'This document as a page', responses: { 200: { description: 'Swagger UI.', content: html } } })
  for (const [path, to] of [['/redoc', '/docs'], ['/api-docs', '/docs'], ['/api-docs.json', '/openapi.json']] as const) {
    openAPIRegistry.registerPath({ ...page, path, summary: `Leads to ${to}, for clients of older servers`, responses: { 302: { description: `\`Location\` is ${to}.` } } })
  }
}

/** Answers of a dialect that have the shape of its refusals. */
const SHAPED = ['403', '401', '429', '400']
/** The document is made already, so this is no schema any more. */
const PROBLEM = { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } }

/** `post /v1/runs/{id}/cancel` is `postRunsByIdCancel`; what is outside of the API has its whole path in it. */
export function operationId(method: string, path: string): string {
  const words = path
    .replace(/^\/(admin\/)?v1\//, '/$1')
    .replaceAll(/\{([^}]*)\}/g, 'by-$1')
    .split(/[^A-Za-z0-9]+/)
    .filter((word) => word !== '')
  return method + words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('')
}
