/**
 * Amounts that a machine tells of a run. A tool can write to the stdout of its CLI, so they may be anything: what is beyond
 * all reason is cut to a bound, here as on the runner, and is no reason to refuse the message that has it.
 */
import { z } from 'zod'

/** USD that one run can have cost. */
export const MAX_COST_USD = 1_000_000
/** A trillion tokens: thousands of these add up to a number that is still exact. */
export const MAX_TOKENS = 1_000_000_000_000

export const CostUsd = z
  .number()
  .nonnegative()
  .overwrite((usd) => Math.min(usd, MAX_COST_USD))

export const TokenCount = z
  .number()
  .nonnegative()
  .overwrite((tokens) => Math.min(Math.round(tokens), MAX_TOKENS))
