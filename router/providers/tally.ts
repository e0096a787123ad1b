/** Sums of requests, and what they do to a moving average that is kept elsewhere. */
import type { ProviderReport } from '../../shared/grants.ts'
import type { Tally } from '../store/provider-health.ts'

export type { Tally } from '../store/provider-health.ts'

/** What a new value weighs in the average: the last ten requests make nine tenths of it. */
const ALPHA = 0.2

export const NO_TALLY: Tally = { requests: 0, failed: 0, inputTokens: 0, outputTokens: 0, latency: { keeps: 1, adds: 0 } }

/** More than any model takes: what a runner says is not to spoil a sum. */
const MAX_TOKENS = 1e9
const whole = (tokens: number) => Math.min(Math.round(tokens), MAX_TOKENS)

/** A mistake of the caller, and a caller who has gone, are no failures. */
const BLAMELESS = new Set<ProviderReport['outcome']>(['ok', 'caller', 'cancelled'])

/** Tokens of the input are all that were read, from a cache or not. */
export function addRequest(tally: Tally, { tokens, latency_ms, outcome }: Pick<ProviderReport, 'tokens' | 'latency_ms' | 'outcome'>): Tally {
  const input = tokens ? tokens.input_tokens + tokens.cache_creation_input_tokens + tokens.cache_read_input_tokens : 0
  const { keeps, adds } = tally.latency
  return {
    requests: tally.requests + 1,
    failed: tally.failed + (BLAMELESS.has(outcome) ? 0 : 1),
    inputTokens: tally.inputTokens + whole(input),
    outputTokens: tally.outputTokens + whole(tokens?.output_tokens ?? 0),
    latency: latency_ms === null || outcome !== 'ok' ? tally.latency : { keeps: keeps * (1 - ALPHA), adds: adds * (1 - ALPHA) + latency_ms * ALPHA },
  }
}
