/**
 * The limits of a tenant, asked of its object. What an isolate was told of a limit that is used up, it knows for itself
 * until that is over. An object that does not answer is no reason to refuse (docs/decisions/0009): until it does, each
 * isolate counts by itself.
 */
import { takeLocal, type LocalLimits } from '../limits/local-limiter.ts'
import type { Draw, Limiter, RateDecision } from '../ports.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'

/** After that long it asks again, should the limit have been given back or the clock be set. */
const ASK_MS = 1_000
const MAX_KEYS = 10_000

/** Plain data: until when a limit is used up, by its key. */
const usedUp = new Map<string, { readonly until: number; readonly toldAt: number; readonly rate: Draw['rate'] }>()
const alone: LocalLimits = new Map()

export function workersLimiter(env: Env): Limiter {
  return {
    async take(tenant, draws) {
      const now = Date.now()
      for (const limit of draws) {
        const retryAfterMs = waitMs(limit, now)
        if (retryAfterMs > 0) return { ok: false, retryAfterMs, limit }
      }
      let decision: RateDecision
      try {
        decision = await env.TENANT.getByName(tenant).take(draws)
      } catch (error) {
        log.warn({ err: error, tenant }, 'the object of a tenant does not answer; this isolate counts by itself')
        return takeLocal(alone, draws, now)
      }
      if (!decision.ok) remember(decision.limit, decision.retryAfterMs)
      return decision
    },
  }
}

function waitMs({ key, rate }: Draw, now: number): number {
  const known = usedUp.get(key)
  if (!known) return 0
  const { until, toldAt, rate: told } = known
  const isFresh = now >= toldAt && now - toldAt < ASK_MS && told.rate === rate.rate && told.burst === rate.burst
  if (isFresh && now < until) return until - now
  usedUp.delete(key)
  return 0
}

function remember({ key, rate }: Draw, retryAfterMs: number): void {
  if (usedUp.size >= MAX_KEYS) usedUp.clear()
  const toldAt = Date.now()
  usedUp.set(key, { until: toldAt + retryAfterMs, toldAt, rate })
}
