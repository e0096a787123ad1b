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

interface Operation {
  operationId?: string
  responses: Record<string, { description: string; content?: object }>
}
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
  let text: string | undefined
  app.get('/openapi.json', (c) => {
    text ??= JSON.stringify(completed(app.getOpenAPI31Document(INFO), isDialect))
    return c.body(text, 200, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-cache' })
  })
}

function completed<D extends object>(document: D, isDialect: (path: string) => boolean): D {
  const { paths = {} } = document as { paths?: Paths }
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      operation.operationId ??= operationId(method, path)
      const { responses } = operation
      const content = isDialect(path) ? SHAPED.map((status) => responses[status]?.content).find((known) => known) : PROBLEM
      if (!content) continue
      for (const [status, { description }] of Object.entries(strangersProblems)) responses[status] ??= { description, content }
      for (const [status, response] of Object.entries(responses)) if (Number(status) >= 400) response.content ??= content
    }
  }
  return document
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
