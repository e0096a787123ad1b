/** The shapes of claudecode2api, for the OpenAPI document, and the table that pydantic.ts reads a body by. */
import { z } from '@hono/zod-openapi'
import { PermissionMode } from '../../../shared/run-spec.ts'
import { OnDisconnect } from '../kit/disconnect.ts'
import type { Field } from './pydantic.ts'

export const CHAT_FIELDS = {
  prompt: { kind: 'str', required: true },
  cwd: { kind: 'str', required: true },
  model: { kind: 'str' },
  fallback_model: { kind: 'str' },
  session_id: { kind: 'str' },
  fork_session: { kind: 'bool' },
  system_prompt: { kind: 'str' },
  append_system_prompt: { kind: 'str' },
  tools: { kind: 'list' },
  allowed_tools: { kind: 'list' },
  disallowed_tools: { kind: 'list' },
  permission_mode: { kind: 'str' },
  mcp_config: { kind: 'list' },
  strict_mcp_config: { kind: 'bool' },
  settings: { kind: 'str' },
  add_dir: { kind: 'list' },
  debug: { kind: 'str|bool' },
  verbose: { kind: 'bool' },
  json_schema: { kind: 'dict' },
  agents: { kind: 'dict' },
  plugin_dir: { kind: 'list' },
} as const satisfies Record<string, Field>

type Read = { str: string; bool: boolean; 'str|bool': string | boolean; list: string[]; dict: Record<string, unknown> }
type Fields = typeof CHAT_FIELDS
/** A body that has the right shape; what was null is not there. */
export type Chat = { readonly [F in keyof Fields]?: Read[Fields[F]['kind']] } & { readonly prompt: string; readonly cwd: string }

const text = () => z.string().nullish()
const flag = () => z.boolean().nullish()
const list = () => z.array(z.string()).nullish()
const object = () => z.record(z.string(), z.unknown()).nullish()
const refused = 'Refused by name unless it is empty.'

export const ChatRequest = z
  .object({
    prompt: z.string().max(1_048_576).openapi({ example: 'Say hello.', description: 'Not blank.' }),
    cwd: z.string().max(4_096).openapi({ description: 'A folder inside the workspace of the runner: absolute, or relative to the workspace.' }),
    model: text().openapi({ description: '`sonnet` unless given; `null` is what the machine takes by itself.' }),
    fallback_model: text(),
    session_id: text().openapi({ description: 'The session to go on with.' }),
    fork_session: flag(),
    system_prompt: text(),
    append_system_prompt: text(),
    tools: list().openapi({ description: 'An empty list is no tools.' }),
    allowed_tools: list(),
    disallowed_tools: list(),
    permission_mode: PermissionMode.nullish(),
    mcp_config: list().openapi({ description: 'The JSON of an MCP configuration, or the name of a server that the owner of the runner has set up; never a path.' }),
    strict_mcp_config: flag().openapi({ description: 'Always so here.' }),
    settings: text().openapi({ description: refused }),
    add_dir: list(),
    debug: z.union([z.string(), z.boolean()]).nullish().openapi({ description: 'Without effect.' }),
    verbose: flag().openapi({ description: 'Without effect.' }),
    json_schema: object(),
    agents: object(),
    plugin_dir: list().openapi({ description: refused }),
    on_disconnect: OnDisconnect.nullish(),
  })
  .openapi('ChatRequest')

export const Cancelled = z.object({ status: z.enum(['cancelled', 'cancelling']), process_id: z.string() }).openapi('ChatCancelled')

const Process = z.object({
  process_id: z.string(),
  cwd: z.string(),
  model: z.string().nullable(),
  started_at: z.string().openapi({ description: 'UTC, without saying so.', example: '2026-01-01T00:00:00.000000' }),
  session_id: z.string().nullable(),
})
export const Processes = z.object({ processes: z.array(Process), count: z.int() }).openapi('ChatProcesses')

export const Gateway = z.object({ message: z.string(), docs: z.string(), health: z.string() }).openapi('ChatGateway')

const Detail = z.object({ detail: z.string() }).openapi('ChatRefusal')
const ValidationError = z
  .object({
    detail: z.array(
      z.object({
        type: z.string(),
        loc: z.array(z.union([z.string(), z.int()])),
        msg: z.string(),
        input: z.unknown(),
        ctx: z.record(z.string(), z.unknown()).optional(),
      }),
    ),
  })
  .openapi('ChatValidationError')

const DESCRIPTIONS = {
  400: 'The directory, or something else that was asked for, cannot be had.',
  401: 'No valid token, key or password.',
  402: 'A budget has no room for it.',
  403: 'The token, the host or the owner of the runner does not allow this.',
  404: 'No such session or process.',
  409: 'The session takes no more runs, or has a turn in progress.',
  413: 'The body is larger than 1 MiB.',
  415: 'The body is not JSON.',
  422: 'The body is not valid; one entry for everything that is wrong with it.',
  429: 'Too many requests, or no slot came free in time: `retry-after` says when to come back.',
  500: 'An error of the router.',
  502: 'The CLI could not be started, or the runner has no such provider.',
  503: 'Nobody is there to do it now.',
  504: 'The runner did not answer in time.',
} as const
type Status = keyof typeof DESCRIPTIONS

/** The answers that are no, for the OpenAPI document. */
export function refusals(...statuses: Status[]) {
  const schemaOf = (status: Status) => (status === 422 ? ValidationError : Detail)
  return Object.fromEntries(
    statuses.map((status) => [status, { description: DESCRIPTIONS[status], content: { 'application/json': { schema: schemaOf(status) } } }]),
  )
}
