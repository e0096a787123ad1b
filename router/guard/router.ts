/** A sub-app whose validation failures are faults that name the field, in whatever dialect the app renders them. */
import { OpenAPIHono } from '@hono/zod-openapi'
import type { ZodError } from 'zod'
import { Fault } from '../../shared/faults.ts'
import type { AppEnv } from '../ports.ts'

/** `say`: how a dialect puts it; `part` is where the value was: `json`, `query`, `param` or `header`. */
export function newRouter(say: (error: ZodError, part: string) => Fault = invalid): OpenAPIHono<AppEnv> {
  return new OpenAPIHono<AppEnv>({
    defaultHook: (result) => {
      if (!result.success) throw say(result.error, result.target)
    },
  })
}

export function invalid(error: ZodError): Fault {
  const issue = error.issues[0]
  if (!issue) return new Fault('invalid_request')
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    const field = [...issue.path, issue.keys[0]].join('.').slice(0, 128)
    return new Fault('invalid_request', `unknown field: ${field}`, { extra: { field } })
  }
  return new Fault('invalid_request', `${path || 'body'}: ${issue.message}`.slice(0, 512), { extra: { field: path.slice(0, 128) } })
}
