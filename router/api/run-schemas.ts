/** The native shapes of a run, in and out. They are the validation and the OpenAPI document at once. */
import { z } from '@hono/zod-openapi'
import { Name, RunId, SessionId } from '../../shared/ids.ts'
import { Usage } from '../../shared/marks.ts'
import { CliOptions, RunSpec } from '../../shared/run-spec.ts'
import { RunWebhook } from '../../shared/webhooks.ts'
import { PUBLIC_STATUSES } from '../core/run-state.ts'

/** Bytes of one request body. */
export const MAX_BODY = 1024 * 1024

const Labels = z.record(Name, z.string().max(256))
export const Metadata = z.record(z.string().min(1).max(64), z.string().max(1024)).refine((m) => Object.keys(m).length <= 32, 'has more than 32 entries')

/** What a run is asked for with, field by field. */
export const RunFields = CliOptions.extend({
  prompt: z.string().max(MAX_BODY).refine((p) => p.trim() !== '', 'must not be blank').openapi({ example: 'Say hello.' }),
  session_id: SessionId.optional(),
  fork_session: z.boolean().optional(),
  cwd: z.string().min(1).max(4096).optional(),
  workspace: Name.optional().openapi({ description: 'In place of `cwd`: a folder of this name on the machine, shared by all runs that name it.' }),
  add_dirs: z.array(z.string().min(1).max(4096)).max(16).optional().openapi({ description: 'Further folders that tools may work in.' }),
  max_log_bytes: RunSpec.shape.max_log_bytes.describe('Bytes of output that are kept; the result always is.'),
  webhook: RunWebhook.optional().openapi({ description: 'Who is told of it, besides the webhooks of the tenant.' }),
  pool: Name.optional(),
  labels: Labels.optional(),
  timeout_s: z.int().min(1).max(86_400).optional(),
  priority: z.int().min(1).max(10).optional().openapi({ description: '10 goes first; 5 unless given.' }),
  queue_timeout_s: z
    .int()
    .min(0)
    .max(86_400)
    .optional()
    .openapi({ description: 'How long to wait for a slot: 30 unless given, with `respond-async` as long as `timeout_s`.' }),
  on_busy: z.enum(['queue', 'reject']).optional().openapi({ description: 'When the session has a turn in progress: wait for it, or 409.' }),
  on_disconnect: z
    .union([z.enum(['cancel', 'detach']), z.strictObject({ detach_for_s: z.int().min(1).max(86_400) })])
    .optional()
    .openapi({ description: 'What becomes of the run when its last subscriber has left; `detach` unless given.' }),
  metadata: Metadata.optional(),
}).strict()

export const RunRequest = RunFields
  .refine((r) => !r.fork_session || r.session_id !== undefined, { path: ['fork_session'], message: 'needs the session_id to fork from' })
  .refine((r) => r.cwd === undefined || r.workspace === undefined, { path: ['workspace'], message: 'is in place of cwd: give one of them' })
  .openapi('RunRequest')

export const Status = z.enum(PUBLIC_STATUSES)

const summary = {
  id: RunId,
  status: Status,
  session_id: SessionId,
  runner_id: z.string().nullable(),
  provider: z.string().nullable().openapi({ description: '`local` is the login of the machine; `demo` is the scripted model that ships with Runyard.' }),
  model: z.string().nullable(),
  is_error: z.boolean().nullable(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  cost_usd: z.number().nullable(),
  cost_estimated: z.boolean().optional().openapi({ description: 'Nobody counted what it cost: what it had reserved stands for it.' }),
  degraded: z.boolean().optional().openapi({ description: 'Every provider that it might have used was out of order when it was given this one.' }),
  usage: Usage.nullable(),
  num_turns: z.int().nullable(),
  duration_ms: z.int().nullable(),
  created_at: z.iso.datetime().nullable(),
  started_at: z.iso.datetime().nullable(),
  ended_at: z.iso.datetime().nullable(),
  metadata: z.record(z.string(), z.string()).nullable(),
  queue_position: z.int().positive().optional().openapi({ description: 'While it is queued: its place among the runs of this tenant and pool.' }),
}
export const RunSummary = z.object(summary).openapi('RunSummary')
export const Run = z.object({ ...summary, result: z.unknown().openapi({ description: 'Text, or the object that `json_schema` asked for.' }) }).openapi('Run')

export const ListQuery = z
  .object({
    status: Status.optional(),
    session_id: SessionId.optional(),
    before: RunId.optional().openapi({ description: 'Cursor: `next` of the page before.' }),
    limit: z.coerce.number().pipe(z.int().min(1).max(100)).default(20),
  })
  .strict()
export const RunPage = z.object({ data: z.array(RunSummary), next: RunId.nullable() }).openapi('RunPage')

export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string(),
    retryable: z.boolean(),
    request_id: z.string(),
  })
  .openapi('Problem')

/** An answer that is no. */
export const problem = (description: string) => ({ description, content: { 'application/problem+json': { schema: Problem } } })

/** The answers that every route can give, whoever asks it: the perimeter and the database are in front of all of them. */
export const strangersProblems = {
  400: problem('The request is not valid; `detail` names the field.'),
  403: problem('The token, the host or the runner does not allow this.'),
  413: problem('The body is larger than 1 MiB.'),
  415: problem('The body is not JSON.'),
  429: problem('Too many requests: `Retry-After` says when to come back.'),
  500: problem('An error of the router; its log has the `request_id`.'),
  503: problem('The database does not answer, or the router is stopping. Try again.'),
}
/** And those of a route that takes a token. */
export const problems = { ...strangersProblems, 401: problem('No valid token.') }
export const notFound = { 404: problem('No such thing in this tenant.') }
