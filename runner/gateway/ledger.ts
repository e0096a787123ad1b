/** What the requests of one turn came to: counts and their price, for the exit mark of the run. */
import type { Metered, Tokens } from '../../shared/grants.ts'
import { unitsOf, usd } from '../../shared/prices.ts'
import type { Payer } from './purse.ts'

const NOTHING: Tokens = { input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }

export class Ledger {
  #requests = 0
  #failovers = 0
  #tokens = NOTHING
  /** Null from the first answer on whose price is not known. */
  #units: bigint | null = 0n
  #provider: string | null = null

  asked(): void {
    this.#requests++
  }

  /** `tokens` null: the answer was one that costs something, and did not say how much. */
  answered(by: Payer, model: string | null, tokens: Tokens | null, failover: boolean): void {
    this.#provider = by.provider
    if (failover) this.#failovers++
    const units = tokens === null ? null : unitsOf(by.prices, model, tokens)
    this.#units = units === null || this.#units === null ? null : this.#units + units
    this.#tokens = sum(this.#tokens, tokens ?? NOTHING)
  }

  get metered(): Metered {
    return {
      requests: this.#requests,
      tokens: this.#tokens,
      cost_usd: this.#units === null ? null : usd(this.#units),
      known_usd: this.#units === null ? 0 : usd(this.#units),
      provider: this.#provider,
      failovers: this.#failovers,
    }
  }
}

function sum(a: Tokens, b: Tokens): Tokens {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    cache_creation_input_tokens: a.cache_creation_input_tokens + b.cache_creation_input_tokens,
    cache_read_input_tokens: a.cache_read_input_tokens + b.cache_read_input_tokens,
  }
}
