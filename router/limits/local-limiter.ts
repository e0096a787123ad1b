/**
 * Rate limits counted in this process alone: for what no other process counts, and for as long as nobody can be asked.
 * `now`: milliseconds of a clock that only goes forward.
 */
import { decide } from '../core/gcra.ts'
import type { Draw, Limiter, RateDecision } from '../ports.ts'

/** More keys than this at once are forgotten from the one that was used least lately on. */
const MAX_KEYS = 50_000

/** Plain data, so that a host may share it between requests. */
export type LocalLimits = Map<string, number>

export function localLimiter(now: () => number, limits: LocalLimits = new Map()): Limiter {
  return { take: (_tenant, draws) => Promise.resolve(takeLocal(limits, draws, now())) }
}

export function takeLocal(limits: LocalLimits, draws: readonly [Draw, ...Draw[]], now: number): RateDecision {
  const verdicts = draws.map((limit) => ({ limit, verdict: decide(limits.get(limit.key) ?? 0, now, limit.rate) }))
  let nearest: (RateDecision & { ok: true }) | undefined
  for (const { limit, verdict } of verdicts) {
    if (!verdict.ok) {
      limits.set(limit.key, verdict.tat)
      return { ok: false, retryAfterMs: verdict.retryAfterMs, limit }
    }
    const { remaining, resetMs } = verdict
    if (!nearest || remaining < nearest.remaining) nearest = { ok: true, remaining, resetMs, limit }
  }
  for (const { limit, verdict } of verdicts) {
    // Behind all others: what was not asked for the longest is in front.
    limits.delete(limit.key)
    limits.set(limit.key, verdict.tat)
  }
  for (const key of limits.keys()) {
    if (limits.size <= MAX_KEYS) break
    limits.delete(key)
  }
  return nearest!
}
