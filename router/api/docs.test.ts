import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { SWAGGER_UI } from './docs.ts'
import { operationId } from './openapi.ts'

it('files of the docs page are those of the version in their URLs', () => {
  const { version } = JSON.parse(readFileSync('node_modules/swagger-ui-dist/package.json', 'utf8')) as { version: string }
  expect(SWAGGER_UI).toBe(version)
})

it.each([
  ['get', '/v1/runs', 'getRuns'],
  ['post', '/v1/runs/{id}/cancel', 'postRunsByIdCancel'],
  ['put', '/admin/v1/limits', 'putAdminLimits'],
  ['get', '/.well-known/jwks.json', 'getWellKnownJwksJson'],
])('%s %s is the operation %s', (method, path, id) => {
  expect(operationId(method, path)).toBe(id)
})
