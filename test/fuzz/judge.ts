/** What is wrong with an answer, by the document that describes it. */
import { familyOf } from '../../router/compat/families.ts'
import { mismatch, type Schema, type Schemas } from './check.ts'
import type { Described, Request } from './requests.ts'
import { HANG_MS, type Answer } from './world.ts'

/** For a method that nobody has described: it is not there, if the request gets as far as that. */
const UNDESCRIBED = new Set([200, 204, 400, 403, 404, 405, 413, 415])

/**
 * The only answers of 500 and above that a router in good order gives to this fuzz, with why. `no_runner`: labels, pools
 * and sessions are asked for that no machine has.
 */
const EXPLAINED: readonly { readonly status: number; readonly path: RegExp; readonly text: RegExp; readonly why: string }[] = [
  { status: 503, path: /./, text: /no_runner|no runner|SERVER_BUSY/, why: 'nobody has such labels, or such a pool' },
  { status: 501, path: /^\/api\//, text: /not (?:yet )?(?:implemented|available)/, why: 'ccs says so of its own feature' },
  { status: 500, path: /^\/api\//, text: /budget_exceeded/, why: 'ccs says so of a budget that is spent' },
  { status: 500, path: /^\/api\/sessions\/\{id\}\/continue$/, text: /^\{"success":false,"error":"Session (?:not found|is not active)/, why: 'ccs says every no of this route so' },
]

export function verdict({ operation: { path }, method }: Request, answer: Answer, { operations, schemas }: Described): string | undefined {
  const { status, type, text, ms } = answer
  if (ms > HANG_MS) return `took ${Math.round(ms)} ms`
  if (status >= 500 && !EXPLAINED.some((one) => one.status === status && one.path.test(path) && one.text.test(text))) {
    return `answered ${status}: ${text.slice(0, 500)}`
  }
  const isDialect = familyOf(path) !== undefined
  if (status >= 400 && method !== 'HEAD') {
    if (type === '') return `answered ${status} without a body`
    if (isDialect === (type === 'application/problem+json')) return `answered ${status} in another dialect: ${type} ${text.slice(0, 200)}`
  }
  const operation = operations.find((one) => one.path === path && one.method === (method === 'HEAD' ? 'GET' : method))
  if (!operation) return UNDESCRIBED.has(status) || status === 401 ? undefined : `answered ${status} to ${method}, which is not described`
  const documented = operation.responses[String(status)]
  if (!documented) return `answered ${status}, which is not documented: ${text.slice(0, 300)}`
  if (method === 'HEAD') return text === '' ? undefined : 'answered HEAD with a body'
  const { content } = documented
  if (!content) return text === '' ? undefined : `answered ${status} with a body, which is not documented: ${text.slice(0, 200)}`
  const shape = content[type]
  if (!shape) return `answered ${status} with ${type || 'no type'}, which is not documented`
  return type.endsWith('json') && shape.schema ? wrongJson(shape.schema, text, schemas) : undefined
}

function wrongJson(schema: Schema, text: string, schemas: Schemas): string | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return `is no JSON: ${text.slice(0, 200)}`
  }
  const wrong = mismatch(schema, value, schemas)
  return wrong === undefined ? undefined : `does not match its schema: ${wrong} in ${text.slice(0, 500)}`
}
