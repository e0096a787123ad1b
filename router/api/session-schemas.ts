/** The native shapes of sessions and their messages, in and out. */
import { z } from '@hono/zod-openapi'
import { Name, RunId, SessionId } from '../../shared/ids.ts'
import { PUBLIC_STATUSES } from '../core/run-state.ts'
import { MESSAGE_ID, type SessionMessage } from '../engine/messages.ts'
import type { SessionRow, SessionSums, Totals } from '../engine/sessions.ts'
import { SESSION_STATUSES } from '../../drizzle/schema.ts'

/**
 * No lone surrogate and no NUL: the first is no UTF-8, and reading it back aborts libSQL's process; the second ends a text.
 * No pattern of the document: those have no flags, and without `u` the half of a pair is a surrogate, too.
 */
const STORABLE = /^[^\0\p{Surrogate}]*$/u
const text = (max: number) => z.string().min(1).max(max).refine((given) => STORABLE.test(given), 'holds a character that cannot be stored')

const SessionStatus = z.enum(SESSION_STATUSES)
const Metadata = z
  .record(z.string().min(1).max(64), z.union([z.string().max(1024), z.number(), z.boolean()]))
  .refine((m) => Object.keys(m).length <= 32, 'has more than 32 entries')
const Title = text(256)
const Model = text(256)

export const SessionRequest = z
  .strictObject({
    title: Title.optional(),
    cwd: text(4096).optional().openapi({ description: 'Where its first run works.' }),
    pool: Name.optional().openapi({ description: 'Where its first run goes.' }),
    model: Model.optional().openapi({ description: 'Of its runs that name none.' }),
    metadata: Metadata.optional(),
  })
  .openapi('SessionRequest')

export const SessionPatch = z
  .strictObject({
    title: Title.nullable().optional(),
    status: SessionStatus.optional().openapi({ description: 'Only an `active` session takes runs.' }),
    model: Model.nullable().optional(),
    metadata: Metadata.nullable().optional().openapi({ description: 'Replaces what was there.' }),
  })
  .openapi('SessionPatch')

export const Session = z
  .object({
    id: SessionId,
    status: SessionStatus,
    title: z.string().nullable(),
    cwd: z.string().nullable(),
    pool: z.string().nullable().openapi({ description: 'Of a prepared one: where its first run goes.' }),
    model: z.string().nullable(),
    metadata: z.record(z.string(), z.unknown()).nullable(),
    runner_id: z.string().nullable().openapi({ description: 'The machine that it lives on; null until its first run has begun.' }),
    cli_session_id: SessionId.nullable().openapi({ description: 'What the CLI calls it in its lines; null until its first run has begun. It is good wherever `id` is.' }),
    runs: z.int(),
    active_runs: z.int().openapi({ description: 'Those that wait or are under way.' }),
    messages: z.int(),
    cost_usd: z.number(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
    last_run_at: z.iso.datetime().nullable(),
  })
  .openapi('Session')

export const SessionPage = z.object({ data: z.array(Session), next: z.string().nullable() }).openapi('SessionPage')

const Cursor = z
  .string()
  .regex(/^\d{1,15}\.[0-9a-f-]{36}$/, 'is not a cursor of this list')
  .openapi({ description: 'Cursor: `next` of the page before.' })
const limit = z.coerce.number().pipe(z.int().min(1).max(100)).default(20)
const order = z.enum(['asc', 'desc']).default('desc')

export const SessionQuery = z.strictObject({ status: SessionStatus.optional(), cwd: text(4096).optional(), order, before: Cursor.optional(), limit })
export const SearchQuery = z.strictObject({
  q: text(200).optional().openapi({ description: 'Text, not a pattern; upper and lower case of ASCII are the same. Without it every session fits.' }),
  status: SessionStatus.optional(),
  before: Cursor.optional(),
  limit,
})

export const DeleteQuery = z.strictObject({
  running: z.enum(['refuse', 'cancel']).default('refuse').openapi({ description: 'What becomes of turns that wait or are under way: they are in the way, or they are ended first.' }),
})

const MessageId = z.string().regex(MESSAGE_ID, 'is not a message id')
export const MessagesQuery = z.strictObject({
  before: MessageId.optional().openapi({ description: 'Only what was said before this message.' }),
  after: MessageId.optional().openapi({ description: 'Only what was said after this message.' }),
  order: order.openapi({ description: '`desc`: the newest first.' }),
  limit,
})

export const Message = z
  .object({
    id: MessageId,
    session_id: SessionId,
    run_id: RunId,
    role: z.enum(['user', 'assistant']),
    content: z.string().nullable(),
    pruned: z.boolean().optional().openapi({ description: 'What was said is no longer kept.' }),
    status: z.enum(PUBLIC_STATUSES).openapi({ description: 'Of its run.' }),
    model: z.string().nullable(),
    error: z.object({ code: z.string(), message: z.string() }).optional(),
    cost_usd: z.number().nullable(),
    duration_ms: z.int().nullable(),
    created_at: z.iso.datetime(),
  })
  .openapi('SessionMessage')

export const MessagesPage = z
  .object({
    data: z.array(Message),
    has_more: z.boolean(),
    next: MessageId.nullable().openapi({ description: 'For `before` with `desc`, for `after` with `asc`. Null: that was the last of them.' }),
  })
  .openapi('SessionMessagePage')

export const SessionStats = z
  .object({
    session_id: SessionId,
    status: SessionStatus,
    runs: z.int(),
    active_runs: z.int(),
    succeeded: z.int(),
    failed: z.int().openapi({ description: 'Those that were lost included.' }),
    messages: z.int(),
    num_turns: z.int(),
    duration_ms: z.int(),
    cost_usd: z.number(),
    usage: z.object({
      input_tokens: z.int(),
      output_tokens: z.int(),
      cache_creation_input_tokens: z.int(),
      cache_read_input_tokens: z.int(),
    }),
    created_at: z.iso.datetime(),
    first_run_at: z.iso.datetime().nullable(),
    last_ended_at: z.iso.datetime().nullable(),
  })
  .openapi('SessionStats')

const iso = (ms: number) => new Date(ms).toISOString()
const isoOrNull = (ms: number | null) => (ms === null ? null : iso(ms))

export function sessionView(row: SessionRow & Totals): z.infer<typeof Session> {
  return {
    id: row.id,
    status: row.status,
    title: row.title,
    cwd: row.cwd,
    pool: row.pool,
    model: row.model,
    metadata: row.metadata,
    runner_id: row.runner,
    cli_session_id: row.runner === null ? null : (row.cliId ?? row.id),
    runs: row.runs,
    active_runs: row.live,
    messages: row.messages,
    cost_usd: row.costUsd,
    created_at: iso(row.createdAt),
    updated_at: iso(row.updatedAt),
    // Until then it is the time of its making, for the order of lists.
    last_run_at: row.runner === null ? null : iso(row.lastRunAt),
  }
}

export function messageView(said: SessionMessage): z.infer<typeof Message> {
  return {
    id: said.id,
    session_id: said.session,
    run_id: said.run,
    role: said.role,
    content: said.content,
    ...(said.pruned ? { pruned: true } : {}),
    status: said.status,
    model: said.model,
    ...(said.error ? { error: said.error } : {}),
    cost_usd: said.costUsd,
    duration_ms: said.durationMs,
    created_at: iso(said.createdAt),
  }
}

export function statsView({ id, status, createdAt }: SessionRow, sums: SessionSums): z.infer<typeof SessionStats> {
  return {
    session_id: id,
    status,
    runs: sums.runs,
    active_runs: sums.live,
    succeeded: sums.succeeded,
    failed: sums.failed,
    messages: sums.messages,
    num_turns: sums.turns,
    duration_ms: sums.durationMs,
    cost_usd: sums.costUsd,
    usage: {
      input_tokens: sums.inputTokens,
      output_tokens: sums.outputTokens,
      cache_creation_input_tokens: sums.cacheCreationInputTokens,
      cache_read_input_tokens: sums.cacheReadInputTokens,
    },
    created_at: iso(createdAt),
    first_run_at: isoOrNull(sums.firstStartedAt),
    last_ended_at: isoOrNull(sums.lastEndedAt),
  }
}
