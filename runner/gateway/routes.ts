/**
 * What of the Messages API a run may ask for. A key opens far more, such as files, batches and the account itself, and any
 * tool of a run can speak to the gateway.
 */

/** `paid`: it costs tokens, and how it ends says how the provider does. The others are passed on and say nothing of anybody. */
export type Route = 'paid' | 'free'

const FREE = [/^POST \/v1\/messages\/count_tokens$/, /^GET \/v1\/models(?:\/[A-Za-z0-9][\w.:@-]{0,255})?$/]

/** Undefined: nobody is asked. `path` may have a query. */
export function routeOf(method: string, path: string): Route | undefined {
  const line = `${method} ${path.split('?', 1)[0]}`
  if (line === 'POST /v1/messages') return 'paid'
  return FREE.some((route) => route.test(line)) ? 'free' : undefined
}
