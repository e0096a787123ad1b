/**
 * The shapes of ccs, in and out: the validation and the OpenAPI document at once. Its clients send null or "" for what they
 * leave out; unknown keys are refused.
 */
import { z } from '@hono/zod-openapi'
import { AgentName, ModelName, RunSpec, ToolRule } from '../../../shared/run-spec.ts'
import { WebhookUrl } from '../../../shared/webhooks.ts'

const MAX_PROMPT = 1_048_576

/** Left out, null and "" are the same. */
export const opt = <S extends z.ZodType>(schema: S) => z.preprocess((value) => (value === '' || value === null ? undefined : value), schema.optional())

/** Joi takes these for what they say. */
const NUMBER = /^\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*$/i
const num = <S extends z.ZodType>(schema: S) => z.preprocess((value) => (typeof value === 'string' && NUMBER.test(value) ? Number(value) : value), schema)
const BOOLEANS = new Map([
  ['true', true],
  ['false', false],
])
const flag = z.preprocess((value) => (typeof value === 'string' ? (BOOLEANS.get(value.trim().toLowerCase()) ?? value) : value), z.boolean())

export const Prompt = z.string().min(1).max(MAX_PROMPT).refine((prompt) => prompt.trim() !== '', 'is not allowed to be empty').openapi({ example: 'Say hello.' })
export const ProjectPath = z.string().min(1).max(4096)
const Tools = z.array(ToolRule).max(256)
const Priority = num(z.int().min(1).max(10))
const Budget = num(z.number().min(0).max(100_000))
export const PERMISSION_MODES = ['default', 'acceptEdits', 'plan', 'dontAsk', 'bypassPermissions'] as const

const turn = {
  system_prompt: opt(RunSpec.shape.system_prompt.unwrap()),
  max_budget_usd: opt(Budget),
  allowed_tools: opt(Tools),
  disallowed_tools: opt(Tools),
  permission_mode: opt(z.enum(PERMISSION_MODES)),
}

export const Message = z
  .strictObject({
    prompt: Prompt,
    project_path: opt(ProjectPath),
    model: opt(ModelName),
    session_id: opt(z.string().max(64)),
    agent: opt(AgentName),
    mcp_config: opt(z.string().max(262_144)).openapi({ description: 'JSON text, or the name of a server of the machine; never a path.' }),
    ...turn,
    stream: opt(flag),
    async: opt(flag),
    webhook_url: opt(WebhookUrl),
    priority: opt(Priority).openapi({ description: '10 goes first; 5 unless given.' }),
  })
  .openapi('CcsMessage')
export type Message = z.infer<typeof Message>

export const BatchRequest = z
  .strictObject({ prompts: z.array(Prompt).min(1).max(10), project_path: opt(ProjectPath), model: opt(ModelName) })
  .openapi('CcsBatchRequest')

export const Continue = z.strictObject({ prompt: Prompt, ...turn, stream: opt(flag) }).openapi('CcsContinue')
export type Continue = z.infer<typeof Continue>

/** What else somebody wants to find again in his task. */
const Note = z.union([z.string().max(1_024), z.number(), z.boolean(), z.null()])

export const TaskRequest = z
  .strictObject({
    prompt: Prompt,
    project_path: opt(ProjectPath),
    model: opt(ModelName),
    priority: opt(Priority),
    metadata: opt(
      z
        .object({
          webhook_url: opt(WebhookUrl),
          session_id: opt(z.string().max(64)),
          agent: opt(AgentName),
          mcp_config: opt(z.string().max(262_144)),
          ...turn,
        })
        .catchall(Note)
        .refine((metadata) => Object.keys(metadata).length <= 32, 'must have less than or equal to 32 keys'),
    ),
  })
  .openapi('CcsTaskRequest')
export type TaskRequest = z.infer<typeof TaskRequest>

export const json = <S extends z.ZodType>(schema: S) => ({ 'application/json': { schema } })
const ok = z.literal(true)

export const Refusal = z
  .object({ success: z.literal(false), error: z.string(), retryAfter: z.number().optional(), hint: z.string().optional() })
  .openapi('CcsError')

/** What became of one prompt. */
export const Answer = z
  .object({
    success: ok,
    result: z.unknown(),
    duration_ms: z.number(),
    cost_usd: z.number(),
    session_id: z.string(),
    usage: z.record(z.string(), z.unknown()).nullable(),
  })
  .openapi('CcsAnswer')

export const Failure = z
  .object({
    success: z.literal(false),
    error: z.string(),
    duration_ms: z.number().optional(),
    details: z.string().optional(),
    session_id: z.string().optional(),
    cost_usd: z.number().optional(),
    result: z.unknown().optional(),
    budget_exceeded: ok.optional(),
    current_cost_usd: z.number().optional(),
    max_budget_usd: z.number().optional(),
    request_cost_usd: z.number().optional(),
  })
  .openapi('CcsFailure')

export const Batch = z
  .object({
    success: ok,
    results: z.array(z.union([Answer, Failure])),
    summary: z.object({ total: z.int(), successful: z.int(), failed: z.int(), total_cost_usd: z.number(), total_duration_ms: z.number() }),
  })
  .openapi('CcsBatch')

export const Accepted = z
  .object({
    success: ok,
    message: z.string(),
    task_id: z.string(),
    status: z.literal('pending'),
    priority: z.int(),
    session_id: z.string().nullable(),
    webhook_url: z.string().nullable(),
  })
  .openapi('CcsAccepted')

export const Session = z
  .object({
    id: z.string(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    model: z.string().nullable(),
    project_path: z.string().nullable(),
    total_cost_usd: z.number(),
    messages_count: z.int(),
    status: z.enum(['active', 'archived', 'closed']),
    metadata: z.record(z.string(), z.unknown()),
  })
  .openapi('CcsSession')

export const TASK_STATES = ['pending', 'processing', 'completed', 'failed', 'cancelled'] as const
export const Task = z
  .object({
    id: z.string(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    status: z.enum(TASK_STATES),
    prompt: z.string().nullable(),
    project_path: z.string().nullable(),
    model: z.string().nullable(),
    priority: z.int(),
    result: z.unknown(),
    error: z.string().nullable(),
    started_at: z.iso.datetime().nullable(),
    completed_at: z.iso.datetime().nullable(),
    duration_ms: z.number().nullable(),
    cost_usd: z.number().nullable(),
    session_id: z.string(),
    metadata: z.record(z.string(), z.unknown()),
  })
  .openapi('CcsTask')

const refusal = (description: string) => ({ description, content: json(Refusal) })
/** The answers that every route can give; `startable` ones are those of routes that begin a run. */
export const refusals = {
  400: refusal('The request is not valid; the text is that of Joi.'),
  401: refusal('No valid key.'),
  403: refusal('The key, the host or the owner of the machine does not allow this.'),
  404: refusal('No such thing in this tenant.'),
  429: refusal('Too many requests, or no slot came free in time.'),
  503: refusal('No runner can take it, or the router is stopping.'),
}
export const startRefusals = {
  ...refusals,
  409: refusal('The session is not active, or is busy.'),
  410: refusal('The events are no longer kept.'),
  413: refusal('The body is larger than 10 MiB.'),
  415: refusal('The body is not JSON.'),
  502: refusal('The CLI could not be started.'),
  504: refusal('The runner did not answer in time.'),
}
export const failed = { 500: { description: 'The run failed, or a budget does not allow it.', content: json(Failure) } }
export const done = z.object({ success: ok }).openapi('CcsDone')
