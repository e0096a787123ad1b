/** The answers of claude-code-server that are no, for the OpenAPI document. */
import { Refusal } from './schemas.ts'

const DESCRIPTIONS = {
  400: 'The request is not valid: `REQUEST_ERROR`, `INVALID_CWD` or `AGENT_NOT_FOUND`.',
  401: 'No valid key: `UNAUTHORIZED`.',
  402: 'A budget has no room for it.',
  403: 'The token, the host or the runner does not allow this.',
  404: '`NOT_FOUND`.',
  409: 'It was changed meanwhile, or takes nothing more.',
  413: 'The body is larger than 1 MiB.',
  415: 'The body is not JSON.',
  429: '`SERVER_BUSY`, or too many requests: `retry-after` says when to come back.',
  500: '`INTERNAL_ERROR`: the CLI ended without an answer, or the router is at fault.',
  502: 'The CLI could not be started.',
  503: 'Nobody is there to do it now.',
  504: 'The runner did not answer in time.',
} as const

type Status = keyof typeof DESCRIPTIONS
type Documented<S extends Status> = { [status in S]: { description: string; content: { 'application/json': { schema: typeof Refusal } } } }

export function refusals<S extends Status>(...statuses: S[]): Documented<S> {
  const entries = statuses.map((status) => [status, { description: DESCRIPTIONS[status], content: { 'application/json': { schema: Refusal } } }])
  return Object.fromEntries(entries) as Documented<S>
}
