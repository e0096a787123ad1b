import * as fc from 'fast-check'
import { TrieRouter } from 'hono/router/trie-router'
import type { Result } from 'hono/router'
import { expect, it } from 'vitest'
import { createApp } from './app.ts'
import { Paths } from './paths.ts'

const { routes } = createApp(() => {
  throw new Error('nobody asks')
})

/** Each handler with the values of its parameters. */
function found([handlers, values]: Result<number>): unknown[] {
  return handlers.map(([handler, params]) => [handler, Object.fromEntries(Object.entries(params).map(([name, value]) => [name, typeof value === 'number' ? values?.[value] : value]))])
}

it('every path has the handlers that a slow look at all of them finds, in the order in which they were added', () => {
  const [paths, slow] = [new Paths<number>(), new TrieRouter<number>()]
  for (const [place, { method, path }] of routes.entries()) {
    paths.add(method, path, place)
    slow.add(method, path, place)
  }
  const segment = fc.constantFrom('v1', 'api', 'runs', 'sessions', 'search', 'stats', 'x', '', 'a%b', 'é', 'a b')
  const anyPath = fc.array(segment, { minLength: 1, maxLength: 6 }).map((segments) => `/${segments.join('/')}`)
  const ofRoute = fc.tuple(fc.constantFrom(...routes.map(({ path }) => path)), fc.infiniteStream(segment)).map(([path, names]) => path.replace(/:[^/]+|\*/g, () => names.next().value!))
  fc.assert(
    fc.property(fc.constantFrom('GET', 'POST', 'PATCH', 'PUT', 'DELETE', 'OPTIONS', 'ODD'), fc.oneof(anyPath, ofRoute), (method, path) => {
      expect(found(paths.match(method, path))).toEqual(found(slow.match(method, path)))
    }),
    { numRuns: 2_000 },
  )
})

it('a fixed name goes before a parameter in the same place only where it was added before it', () => {
  const paths = new Paths<string>()
  paths.add('GET', '/a/:id', 'any')
  paths.add('GET', '/a/b', 'fixed')
  expect(found(paths.match('GET', '/a/b') as unknown as Result<number>)).toEqual([['any', { id: 'b' }], ['fixed', {}]])
  expect(found(paths.match('GET', '/a/c') as unknown as Result<number>)).toEqual([['any', { id: 'c' }]])
})
