/** The breakers of this machine: one for each tenant, provider and version, as a new key is not to be blamed for the old one. */
import type { Grant } from '../../shared/grants.ts'
import { Breaker } from './breaker.ts'

/** Beyond it the one goes that was not asked for longest. */
const MAX_BREAKERS = 1_000

export class Breakers {
  readonly #all = new Map<string, Breaker>()

  of(tenant: string, { provider, version }: Pick<Grant, 'provider' | 'version'>): Breaker {
    const key = `${tenant}/${provider}/${version}`
    const breaker = this.#all.get(key) ?? new Breaker()
    this.#all.delete(key)
    this.#all.set(key, breaker)
    const [oldest] = this.#all.keys()
    if (this.#all.size > MAX_BREAKERS && oldest !== undefined) this.#all.delete(oldest)
    return breaker
  }
}
