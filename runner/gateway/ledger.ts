/** What the requests of one turn came to: counts and their price, for the exit mark of the run and for its budget. */
import type { Metered, Tokens } from '../../shared/grants.ts'
import { unitsOf, usd } from '../../shared/prices.ts'
import type { Payer } from './purse.ts'

export const NO_TOKENS: Tokens = { input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }

/** What a provider may bill for an answer that nobody has seen the end of. */
export interface Doubt {
  /** What it said until then: no less. */
  readonly least: Tokens
  readonly sentBytes: number
  readonly receivedBytes: number
}

/** Bytes that a token takes: of text in a request, and of a stream, where a delta of a few letters is a line of a hundred. */
const [BYTES_OF_INPUT, BYTES_OF_STREAM] = [4, 100]

export class Ledger {
  #requests = 0
  #failovers = 0
  #tokens = NO_TOKENS
  /** Exact, and no less than this was spent. */
  #known = 0n
  /** An estimate of what was spent besides. */
  #doubted = 0n
  #isKnown = true
  #provider: string | null = null

  asked(): void {
    this.#requests++
  }

  answered(by: Payer, isFailover: boolean): void {
    this.#provider = by.provider
    if (isFailover) this.#failovers++
  }

  /** A whole answer, with all that it says it costs. */
  paid(by: Payer, model: string | null, tokens: Tokens): void {
    const units = unitsOf(by.prices, model, tokens)
    this.#tokens = addTokens(this.#tokens, tokens)
    this.#known += units ?? 0n
    if (units === null) this.#isKnown = false
  }

  /** An answer that was cut, let go of, or does not say what it costs. */
  lost(by: Payer, model: string | null, { least, sentBytes, receivedBytes }: Doubt): void {
    const known = unitsOf(by.prices, model, least) ?? 0n
    const guess = {
      ...NO_TOKENS,
      input_tokens: sentBytes / BYTES_OF_INPUT,
      output_tokens: receivedBytes / BYTES_OF_STREAM,
    }
    const guessed = unitsOf(by.prices, model, guess) ?? 0n
    this.#tokens = addTokens(this.#tokens, least)
    this.#known += known
    if (guessed > known) this.#doubted += guessed - known
    this.#isKnown = false
  }

  /** Whether a budget is used up, with what may have been spent unseen. Without a price list nothing ever is. */
  hasSpent(budgetUsd: number): boolean {
    return usd(this.#known + this.#doubted) >= budgetUsd
  }

  get metered(): Metered {
    const known_usd = usd(this.#known)
    return {
      requests: this.#requests,
      tokens: this.#tokens,
      cost_usd: this.#isKnown ? known_usd : null,
      known_usd,
      provider: this.#provider,
      failovers: this.#failovers,
    }
  }
}

export function addTokens(a: Tokens, b: Tokens): Tokens {
  return {
    input_tokens: a.input_tokens + b.input_tokens,
    output_tokens: a.output_tokens + b.output_tokens,
    cache_creation_input_tokens: a.cache_creation_input_tokens + b.cache_creation_input_tokens,
    cache_read_input_tokens: a.cache_read_input_tokens + b.cache_read_input_tokens,
  }
}
