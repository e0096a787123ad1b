/**
 * Marks: the lifecycle events of ours that take a `seq` among the CLI's lines. They are stored and shown as the
 * JSON written here, so what a subscriber reads is what the runner committed to its spool.
 */
import { z } from 'zod'
import { CostUsd, TokenCount } from './amounts.ts'
import { Metered } from './grants.ts'
import { SessionId } from './ids.ts'

export const Usage = z.object({
  input_tokens: TokenCount,
  output_tokens: TokenCount,
  cache_creation_input_tokens: TokenCount,
  cache_read_input_tokens: TokenCount,
})
export type Usage = z.infer<typeof Usage>

/** Why a process ended. Only `completed` leaves the outcome to the CLI's own result. */
export const ExitReason = z.enum([
  'completed',
  'cancelled',
  'timeout',
  'crashed',
  'spool_full',
  'not_started',
  'runner_restarted',
  'runner_stopped',
  'queue_timeout',
  'rejected',
  'lost',
])
export type ExitReason = z.infer<typeof ExitReason>

/** `error.code` of a run that did not succeed. Provider trouble is told from the caller's own mistakes. */
export const RunErrorCode = z.enum([
  'rate_limited',
  'overloaded',
  'provider_auth',
  'provider_error',
  'provider_unreachable',
  'provider_timeout',
  'model_not_found',
  'invalid_request',
  'refused',
  'max_turns',
  'max_budget',
  'max_output_tokens',
  'structured_output',
  'cli_error',
  ...ExitReason.exclude(['completed']).options,
])
export type RunErrorCode = z.infer<typeof RunErrorCode>

export const RunError = z.object({ code: RunErrorCode, message: z.string().max(2_048) })
export type RunError = z.infer<typeof RunError>

/** What the CLI said about its turn, parsed once on the runner; numbers and the place of the result, never its text. */
export const TurnResult = z.object({
  /** The seq of the result line. */
  seq: z.int().positive(),
  is_error: z.boolean(),
  error: RunError.optional(),
  cost_usd: CostUsd,
  usage: Usage,
  num_turns: z.int().nonnegative(),
  /** The model the CLI says it used. */
  model: z.string().max(128).optional(),
})
export type TurnResult = z.infer<typeof TurnResult>

export const StartedMark = z.object({
  kind: z.literal('started'),
  session_id: SessionId,
  /** `local` is the machine's own login; `demo` is the scripted model, and must be shown as such everywhere. */
  provider: z.string().max(64),
  cli_version: z.string().max(64),
  cwd: z.string().max(4096),
  warm: z.boolean(),
})
export const ExitMark = z.object({
  kind: z.literal('exit'),
  code: z.int().nullable(),
  signal: z.string().max(16).nullable(),
  reason: ExitReason,
  message: z.string().max(2_048).optional(),
  result: TurnResult.optional(),
  /** What the gateway counted; absent when the CLI went its own way, with a login that only it can use. */
  metered: Metered.optional(),
  duration_ms: z.int().nonnegative(),
})
/**
 * Events `from`..`to` are missing; `to: null` means everything after `from`. Or one line that was too long to keep; or, at
 * the end of a run, how many bytes came after its log was full.
 */
export const GapMark = z.object({
  kind: z.literal('gap'),
  reason: z.enum(['line_too_long', 'log_cap', 'spool_lost', 'lost']),
  from: z.int().positive().optional(),
  to: z.int().positive().nullable().optional(),
  bytes: z.int().nonnegative().optional(),
})
export const StderrMark = z.object({ kind: z.literal('stderr'), text: z.string().max(16_384), truncated: z.boolean() })
/** A line that could not travel as it is: it has a CR, is not valid UTF-8 or is no JSON object. */
export const RawMark = z.object({ kind: z.literal('raw'), encoding: z.enum(['utf8', 'base64']), data: z.string() })

export const Mark = z.discriminatedUnion('kind', [StartedMark, ExitMark, GapMark, StderrMark, RawMark])
export type Mark = z.infer<typeof Mark>
export type StartedMark = z.infer<typeof StartedMark>
export type ExitMark = z.infer<typeof ExitMark>
export type GapMark = z.infer<typeof GapMark>
export type StderrMark = z.infer<typeof StderrMark>
export type RawMark = z.infer<typeof RawMark>
