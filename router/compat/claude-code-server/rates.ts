/**
 * Where a caller stands, in the headers of @fastify/rate-limit, from those that guard/limits has set: `x-ratelimit-limit`,
 * `-remaining` and `-reset` in seconds.
 */
import { createMiddleware } from 'hono/factory'
import type { AppEnv } from '../../ports.ts'

export const rateHeaders = createMiddleware<AppEnv>(async (c, next) => {
  await next()
  for (const [name, value] of Object.entries(olderFields(c.res.headers))) c.res.headers.set(name, value)
})

/** Nothing where nobody is limited. */
export function olderFields(headers: Headers): Record<string, string> {
  const [, name, remaining, reset] = /^"([^"]+)";r=(\d+);t=(\d+)$/.exec(headers.get('ratelimit') ?? '') ?? []
  if (name === undefined || remaining === undefined || reset === undefined) return {}
  const policies = (headers.get('ratelimit-policy') ?? '').split(', ')
  const [, limit] = /;q=(\d+)/.exec(policies.find((policy) => policy.startsWith(`"${name}"`)) ?? '') ?? []
  return { ...(limit === undefined ? {} : { 'x-ratelimit-limit': limit }), 'x-ratelimit-remaining': remaining, 'x-ratelimit-reset': reset }
}
