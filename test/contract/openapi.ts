/** The OpenAPI document of a host, and the page that shows it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { VERSION } from '../../shared/version.ts'
import { startFleet, type Fleet, type Json } from '../kit/fleet.ts'
import { mismatch, type Schema, type Schemas } from '../fuzz/check.ts'
import type { Host } from '../kit/host.ts'
import { BODIES } from './isolation-known.ts'

interface Operation {
  readonly operationId?: string
  readonly tags?: string[]
  readonly security?: Json[]
  readonly parameters?: { in: string; name: string; required?: boolean }[]
  readonly requestBody?: { content: Record<string, { schema?: Schema; example?: unknown }> }
  readonly responses: Record<string, { description: string; headers?: Json; content?: Record<string, { schema?: Json }> }>
}
interface Document {
  readonly openapi: string
  readonly info: Json
  readonly security: Json[]
  readonly paths: Record<string, Record<string, Operation>>
  readonly components: { schemas: Json; securitySchemes: Record<string, Json> }
}

/** A stream, and an answer that is its status. */
const WITHOUT_BODY = new Set(['204', '302'])

function compiles(pattern: string): boolean {
  try {
    return new RegExp(pattern, 'u') instanceof RegExp
  } catch {
    return false
  }
}

export function openApi(host: Host): void {
  describe('the OpenAPI document', () => {
    let fleet: Fleet
    let document: Document
    let operations: [string, string, Operation][]
    beforeAll(async () => {
      fleet = await startFleet(host, {})
      const response = await fleet.call('/openapi.json', { token: null })
      expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8')
      document = (await response.json()) as Document
      operations = Object.entries(document.paths).flatMap(([path, methods]) =>
        Object.entries(methods).map(([method, operation]): [string, string, Operation] => [method, path, operation]),
      )
    })
    afterAll(() => fleet.close())

    it('is of version 3.1 and names every way to say who one is', () => {
      expect(document).toMatchObject({ openapi: '3.1.0', info: { title: 'Runyard', version: VERSION } })
      expect(Object.values(document.components.securitySchemes).map(({ type, scheme, name }) => [type, scheme ?? name])).toEqual([
        ['http', 'bearer'],
        ['apiKey', 'x-api-key'],
        ['http', 'basic'],
      ])
      expect(document.security).toEqual([{ token: [] }, { apiKey: [] }, { basic: [] }])
    })

    it('gives every operation an id of its own, a tag and a summary', () => {
      expect(operations.length).toBeGreaterThan(80)
      const ids = operations.map(([, , { operationId }]) => operationId)
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids.filter((id) => !/^[a-z][A-Za-z0-9]+$/.test(id ?? ''))).toEqual([])
      expect(operations.filter(([, , { tags }]) => !tags?.length).map(([method, path]) => `${method} ${path}`)).toEqual([])
    })

    it('has every parameter of a path, and every answer with its shape', () => {
      const wrong = operations.flatMap(([method, path, { parameters = [], responses }]) => [
        ...[...path.matchAll(/\{([^}]+)\}/g)]
          .filter(([, name]) => !parameters.some((parameter) => parameter.in === 'path' && parameter.name === name && parameter.required))
          .map(([, name]) => `${method} ${path}: {${name}}`),
        ...Object.entries(responses)
          .filter(([status, { content }]) => !WITHOUT_BODY.has(status) && !Object.values(content ?? {}).some(({ schema }) => schema))
          .map(([status]) => `${method} ${path}: ${status}`),
        ...['400', '403', '413', '415', '429', '500', '503'].filter((status) => !(status in responses)).map((status) => `${method} ${path}: no ${status}`),
      ])
      expect(wrong).toEqual([])
    })

    it('refers to nothing that is not in it', () => {
      const refs = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name!)
      expect(refs.length).toBeGreaterThan(0)
      expect(refs.filter((name) => !(name in document.components.schemas))).toEqual([])
    })

    it('has patterns that mean the same to everybody', () => {
      const wrong: string[] = []
      const look = (value: unknown): void => {
        if (typeof value !== 'object' || value === null) return
        const { pattern } = value as { pattern?: unknown }
        // Flags are no part of the format: slashes and letters would be looked for in the value.
        if (typeof pattern === 'string' && (/^\/|\/[a-z]*$/.test(pattern) || !compiles(pattern))) wrong.push(pattern)
        Object.values(value).forEach(look)
      }
      look(document)
      expect(wrong).toEqual([])
    })

    it('takes the bodies that are known to be good, and fills in others that begin a run', () => {
      const schemas = document.components.schemas as Schemas
      const examples: string[] = []
      const wrong = operations.flatMap(([method, path, { requestBody }]) => {
        const { schema, example } = requestBody?.content['application/json'] ?? {}
        if (!schema) return []
        if (example !== undefined) examples.push(`${method} ${path}`)
        const bodies = [BODIES[`${method} ${path}`], example].filter((body) => body !== undefined)
        return bodies.map((body) => mismatch(schema, body, schemas)).filter((why) => why !== undefined).map((why) => `${method} ${path}: ${why}`)
      })
      expect(wrong).toEqual([])
      expect(examples).toEqual(expect.arrayContaining(['post /v1/runs', 'post /chat', 'post /ask', 'post /api/claude', 'post /api/messages', 'post /v1/batches']))
    })

    it('says what a stream has in its headers, and who answers where a dialect is off', () => {
      const chat = document.paths['/chat']!['post']!.responses
      expect(Object.keys(chat['200']!.headers ?? {})).toEqual(['X-Run-Id', 'X-Process-ID', 'runyard-bypass'])
      expect(Object.keys(chat['404']!.content ?? {})).toEqual(['application/json', 'application/problem+json'])
    })

    it('leaves out no path that is answered without a token, but for files', () => {
      for (const path of ['/health', '/healthz', '/readyz', '/openapi.json', '/.well-known/jwks.json', '/docs', '/redoc', '/api-docs', '/api-docs.json']) {
        expect(document.paths[path]?.['get']?.security, path).toEqual([])
      }
    })
  })

  describe('the page of the API', () => {
    let fleet: Fleet
    beforeAll(async () => void (fleet = await startFleet(host, {})))
    afterAll(() => fleet.close())
    const get = (path: string) => fleet.call(path, { token: null, redirect: 'manual' })

    it('takes code from nobody but this host', async () => {
      const response = await get('/docs')
      expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/html; charset=utf-8'])
      const policy = response.headers.get('content-security-policy')!
      expect(policy).toContain("default-src 'none'; script-src 'self'; style-src 'self'")
      expect(policy).not.toContain('unsafe')
      expect(policy).not.toContain('http')
      const page = await response.text()
      expect(page).not.toMatch(/<script>|<style|\son\w+=|https?:|\/\/[a-z]/)
      expect(page.length).toBeGreaterThan(0)
    })

    it('comes with all of its files, which may be kept for good', async () => {
      const page = await (await get('/docs')).text()
      const files = [...page.matchAll(/(?:src|href)="(\/docs\/assets\/[^"]+)"/g)].map(([, path]) => path!)
      expect(files).toHaveLength(4)
      for (const path of files) {
        const response = await get(path)
        expect([response.status, response.headers.get('cache-control')], path).toEqual([200, 'public, max-age=31536000, immutable'])
        expect(response.headers.get('content-type')).toMatch(path.endsWith('.png') ? /^image\/png$/ : /^text\/(?:css|javascript); charset=utf-8$/)
        expect((await response.arrayBuffer()).byteLength).toBeGreaterThan(100)
      }
    })

    it('has no other files, by whatever name', async () => {
      const page = await (await get('/docs')).text()
      const base = /"(\/docs\/assets\/[^/"]+)\//.exec(page)![1]!
      for (const name of ['LICENSE', '..%2f..%2fpackage.json', '%2e%2e', '__proto__', 'constructor', 'swagger-ui.css.map', 'a'.repeat(1_000)]) {
        expect((await get(`${base}/${name}`)).status, name).toBe(404)
      }
      expect((await get('/docs/assets/0.0.0/swagger-ui.css')).status).toBe(404)
    })

    it('is found where older servers have theirs', async () => {
      const to = async (path: string) => {
        const response = await get(path)
        return [response.status, response.headers.get('location')]
      }
      for (const path of ['/redoc', '/api-docs', '/docs/']) expect(await to(path), path).toEqual([302, '/docs'])
      expect(await to('/api-docs.json')).toEqual([302, '/openapi.json'])
    })
  })
}
