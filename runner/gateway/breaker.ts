/**
 * The gateway's own copy of the breaker of a provider: what the router said with the newest grant, and what was seen here
 * since. It keeps a running turn from asking a provider again that has just failed; who is chosen for a run is the
 * router's word, which sees all machines.
 *
 * No clock is read: `now` is passed in, in monotonic milliseconds.
 */
import type { Grant, Outcome } from '../../shared/grants.ts'

export interface BreakerRules {
  readonly failureThreshold: number
  readonly recoveryMs: number
}

export class Breaker {
  #failures = 0
  /** Infinity: until the router says otherwise. */
  #openUntil = 0
  readonly #models = new Map<string, number>()

  /** A newer grant replaces what is held open here. One more failure opens it again at once. */
  told(grant: Pick<Grant, 'open_ms' | 'open_models'>, now: number): void {
    this.#openUntil = until(grant.open_ms, now)
    this.#models.clear()
    for (const [model, ms] of Object.entries(grant.open_models ?? {})) this.#models.set(model, until(ms, now))
  }

  isOpen(model: string | null, now: number): boolean {
    return now < this.#openUntil || (model !== null && now < (this.#models.get(model) ?? 0))
  }

  saw(outcome: Outcome, facts: { readonly model: string | null; readonly retryAfterMs: number | null }, rules: BreakerRules, now: number): void {
    const { model, retryAfterMs } = facts
    switch (outcome) {
      case 'ok':
        this.#failures = 0
        this.#openUntil = 0
        if (model !== null) this.#models.delete(model)
        return
      case 'auth':
        this.#openUntil = Infinity
        return
      case 'forbidden':
      case 'not_found':
        if (model !== null) this.#models.set(model, now + rules.recoveryMs)
        return
      case 'rate_limited':
        if (retryAfterMs !== null) this.#openUntil = Math.max(this.#openUntil, now + retryAfterMs)
        else this.#failed(rules, now)
        return
      case 'overloaded':
      case 'server':
      case 'unreachable':
      case 'timeout':
        return this.#failed(rules, now)
      case 'caller':
      case 'cancelled':
      // The owner of this machine refused the address; that says nothing of the provider.
      case 'refused_url':
        return
    }
  }

  #failed(rules: BreakerRules, now: number): void {
    if (++this.#failures >= rules.failureThreshold) this.#openUntil = Math.max(this.#openUntil, now + rules.recoveryMs)
  }
}

function until(ms: number | null | undefined, now: number): number {
  if (ms === undefined) return 0
  return ms === null ? Infinity : now + ms
}
