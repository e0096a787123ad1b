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

/** What an outcome was about. */
export interface Facts {
  readonly model: string | null
  readonly retryAfterMs: number | null
}

/** Their names come from the tools of runs. */
const MAX_MODELS = 64

export class Breaker {
  #failures = 0
  /** By what was seen here. Infinity: until the router says otherwise. */
  #openUntil = 0
  readonly #models = new Map<string, number>()
  /** By the newest grant that said so. */
  #told: { readonly openUntil: number; readonly models: ReadonlyMap<string, number> } = { openUntil: 0, models: new Map() }

  /**
   * What a newer grant says. One that says nothing of a breaker clears what was seen here; one more failure opens it again
   * at once. One that says open does not touch it: another run of this machine may have been chosen to try.
   */
  told(grant: Pick<Grant, 'open_ms' | 'open_models'>, now: number): void {
    const models = Object.entries(grant.open_models ?? {})
    this.#told = { openUntil: until(grant.open_ms, now), models: new Map(models.map(([model, ms]) => [model, until(ms, now)])) }
    if (grant.open_ms === undefined) this.#openUntil = 0
    if (grant.open_ms === undefined && models.length === 0) this.#models.clear()
  }

  /** `chosen`: the router gave the run this one knowing all that it knows, so only what was seen here counts. */
  isOpen(model: string | null, now: number, chosen = false): boolean {
    const seen = now < this.#openUntil || (model !== null && now < (this.#models.get(model) ?? 0))
    if (seen || chosen) return seen
    return now < this.#told.openUntil || (model !== null && now < (this.#told.models.get(model) ?? 0))
  }

  saw(outcome: Outcome, { model, retryAfterMs }: Facts, rules: BreakerRules, now: number): void {
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
        if (model !== null) this.#openModel(model, now + rules.recoveryMs, now)
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

  #openModel(model: string, openUntil: number, now: number): void {
    this.#models.delete(model)
    this.#models.set(model, openUntil)
    if (this.#models.size <= MAX_MODELS) return
    for (const [name, at] of this.#models) if (at <= now) this.#models.delete(name)
    const [oldest] = this.#models.keys()
    if (this.#models.size > MAX_MODELS && oldest !== undefined) this.#models.delete(oldest)
  }

  #failed(rules: BreakerRules, now: number): void {
    if (++this.#failures >= rules.failureThreshold) this.#openUntil = Math.max(this.#openUntil, now + rules.recoveryMs)
  }
}

function until(ms: number | null | undefined, now: number): number {
  if (ms === undefined) return 0
  return ms === null ? Infinity : now + ms
}
