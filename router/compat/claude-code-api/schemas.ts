/** The shapes of claude-code-api, for the OpenAPI document. Bodies are read in body.ts. */
import { z } from '@hono/zod-openapi'
import { OnDisconnect } from '../kit/disconnect.ts'

const text = () => z.string().nullish()
const rules = () => z.array(z.string()).nullish()
const later = 'Of the later versions.'

export const ClaudeRequest = z
  .object({
    prompt: z.string().max(1_048_576).openapi({ example: 'Say hello.', description: 'Not blank.' }),
    session_id: text().openapi({ description: 'The session to go on with.' }),
    'dangerously-skip-permissions': z.boolean().nullish().openapi({ description: 'Needs the scope `runs:bypass`.' }),
    allowedTools: rules(),
    disallowedTools: rules(),
    'session-id': text().openapi({ description: later }),
    workspace: text().openapi({ description: `${later} A folder of this name under the workspace, shared by all runs that name it.` }),
    'system-prompt': text().openapi({ description: later }),
    'allowed-tools': rules().openapi({ description: later }),
    'disallowed-tools': rules().openapi({ description: later }),
    'mcp-allowed-tools': rules().openapi({ description: later }),
    'on-disconnect': OnDisconnect.nullish(),
  })
  .openapi('ClaudeRequest')

const Refusal = z
  .object({ statusCode: z.int(), code: z.string().optional(), error: z.string(), message: z.string() })
  .openapi('ClaudeRefusal')
const Unauthorized = z
  .object({ error: z.object({ message: z.string(), type: z.string(), code: z.string() }) })
  .openapi('ClaudeUnauthorized')

const DESCRIPTIONS = {
  400: 'The request is not valid.',
  401: 'No valid token.',
  402: 'A budget has no room for it.',
  403: 'The token, the host or the owner of the runner does not allow this.',
  409: 'The session takes no more runs, or has a turn in progress.',
  413: 'The body is larger than 1 MiB.',
  415: 'The body is not JSON.',
  429: 'Too many requests, or no slot came free in time: `retry-after` says when to come back.',
  500: 'An error of the router.',
  502: 'The runner has no such provider.',
  503: 'Nobody is there to do it now.',
  504: 'The runner did not answer in time.',
} as const
type Status = keyof typeof DESCRIPTIONS

/** The answers that are no, for the OpenAPI document. */
export function refusals(...statuses: Status[]) {
  const schemaOf = (status: Status) => (status === 401 ? Unauthorized : Refusal)
  return Object.fromEntries(
    statuses.map((status) => [status, { description: DESCRIPTIONS[status], content: { 'application/json': { schema: schemaOf(status) } } }]),
  )
}
