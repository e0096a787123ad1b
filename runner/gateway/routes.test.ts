import { describe, expect, it } from 'vitest'
import { routeOf } from './routes.ts'

describe('a route of the gateway', () => {
  it.each([
    ['POST', '/v1/messages', 'paid'],
    ['POST', '/v1/messages?beta=true', 'paid'],
    ['POST', '/v1/messages/count_tokens?beta=true', 'free'],
    ['GET', '/v1/models', 'free'],
    ['GET', '/v1/models?limit=1000', 'free'],
    ['GET', '/v1/models/claude-opus-4-8', 'free'],
  ])('is %s %s', (method, path, route) => {
    expect(routeOf(method, path)).toBe(route)
  })

  it.each([
    ['GET', '/v1/messages'],
    ['POST', '/v1/messages/'],
    ['POST', '//v1/messages'],
    ['POST', '/v1//messages'],
    ['POST', '/v1/%6Dessages'],
    ['POST', '/V1/messages'],
    ['POST', '/v1/messages/batches'],
    ['POST', '/v1/messages/batches?/v1/messages'],
    ['POST', '/v1/complete'],
    ['GET', '/v1/models/a/b'],
    ['GET', '/v1/models/..'],
    ['DELETE', '/v1/models/x'],
    ['GET', '/v1/organizations/api_keys'],
    ['POST', '/v1/files'],
    ['POST', '/v1/nothing'],
    ['GET', '/'],
  ])('is not %s %s', (method, path) => {
    expect(routeOf(method, path)).toBeUndefined()
  })
})
