/**
 * What a turn came to: success, or an error with a code that tells the provider's trouble from the caller's mistake.
 *
 * `is_error` decides and nothing else: an API failure has `subtype: "success"`, and an interrupted turn may exit with 0.
 * Whether the run was cancelled or timed out is known to the caller, who lets its own intent go first.
 * The texts are those of CLI 2.1.197; test/fixtures/cli has them as they were recorded.
 */
import type { RunError, RunErrorCode, TurnResult } from '../../shared/marks.ts'
import { BUDGET_IS_SPENT, NOT_THAT_MODEL } from '../gateway/refusal.ts'
import type { CliResult, News } from './output.ts'

const MESSAGE_CAP = 2_048
const MODEL_CAP = 128

/** What was said on the way to the result; the last word of each kind counts. */
export type Signs = { category?: string; retryStatus?: number | null; model?: string }

export function noteSigns(signs: Signs, news: News): Signs {
  if (news.type === 'init') return { ...signs, model: news.model.slice(0, MODEL_CAP) }
  if (news.type === 'api_error') return { ...signs, category: news.category }
  return news.type === 'api_retry' ? { ...signs, retryStatus: news.status } : signs
}

/** `seq` is the seq of the result line. */
export function turnResult(seq: number, result: CliResult, signs: Signs): TurnResult {
  return {
    seq,
    is_error: result.is_error,
    ...(result.is_error ? { error: errorOf(result, signs) } : {}),
    cost_usd: result.total_cost_usd,
    usage: result.usage,
    num_turns: result.num_turns,
    ...(signs.model ? { model: signs.model } : {}),
  }
}

function errorOf(result: CliResult, signs: Signs): RunError {
  // Its own text for this is a diagnostic of its insides.
  if (result.terminal_reason.startsWith('aborted_')) return { code: 'cancelled', message: 'the turn was interrupted' }
  const message = result.result || result.errors.join('; ') || 'the CLI gave no reason'
  return { code: codeOf(result, signs, message), message: message.slice(0, MESSAGE_CAP) }
}

function codeOf(result: CliResult, signs: Signs, message: string): RunErrorCode {
  return (
    BY_SUBTYPE.get(result.subtype) ??
    (result.stop_reason === 'refusal' ? 'refused' : undefined) ??
    (signs.category === 'max_output_tokens' ? 'max_output_tokens' : undefined) ??
    OF_GATEWAY.find(([status, words]) => result.api_error_status === status && message.includes(words))?.[2] ??
    (result.api_error_status === null ? undefined : byStatus(result.api_error_status)) ??
    BY_TEXT.find(([text]) => text.test(message))?.[1] ??
    BY_CATEGORY.get(signs.category ?? '') ??
    (typeof signs.retryStatus === 'number' ? byStatus(signs.retryStatus) : undefined) ??
    'cli_error'
  )
}

const BY_SUBTYPE = new Map<string, RunErrorCode>([
  ['error_max_turns', 'max_turns'],
  ['error_max_budget_usd', 'max_budget'],
  ['error_max_structured_output_retries', 'structured_output'],
])

const OF_GATEWAY: readonly (readonly [number, string, RunErrorCode])[] = [
  [402, BUDGET_IS_SPENT, 'max_budget'],
  [403, NOT_THAT_MODEL, 'model_not_found'],
]

const BY_STATUS = new Map<number, RunErrorCode>([
  [401, 'provider_auth'],
  // The account has no credit: as with a bad key, only its owner can help.
  [402, 'provider_auth'],
  [403, 'provider_auth'],
  [404, 'model_not_found'],
  [408, 'provider_timeout'],
  [429, 'rate_limited'],
  [504, 'provider_timeout'],
  // The gateway, of a provider that cannot be reached.
  [523, 'provider_unreachable'],
  [529, 'overloaded'],
])

function byStatus(status: number): RunErrorCode | undefined {
  const code = BY_STATUS.get(status)
  if (code) return code
  if (status >= 400 && status < 500) return 'invalid_request'
  return status >= 500 ? 'provider_error' : undefined
}

/** The third 529 in a row, a broken connection and a missing login come without a status. */
const BY_TEXT: readonly (readonly [RegExp, RunErrorCode])[] = [
  [/Repeated 529|API Error: Overloaded/, 'overloaded'],
  [/Unable to connect to API/, 'provider_unreachable'],
  [/^(API Error: )?Request timed out/, 'provider_timeout'],
  [/^Not logged in|^Invalid API key/, 'provider_auth'],
]

const BY_CATEGORY = new Map<string, RunErrorCode>([
  ['rate_limit', 'rate_limited'],
  ['overloaded', 'overloaded'],
  ['authentication_failed', 'provider_auth'],
  ['billing_error', 'provider_auth'],
  ['server_error', 'provider_error'],
  ['invalid_request', 'invalid_request'],
])
