/**
 * What tokens cost by a provider's price list, in USD. Exact: prices are read as whole billionths of a dollar, so that a
 * sum is the same whatever its order, and is rounded once, to the nearest double.
 */
import type { Price, Prices, Tokens } from './grants.ts'

/** Billionths of a USD for a million tokens: 10⁻¹⁵ USD for one. */
const PRICE_SCALE = 1e9
const UNITS_PER_USD = 1e15

/** In 10⁻¹⁵ USD, which can be added up without an error. Null where the list has no price for this model: `*` is every model that it does not name. */
export function unitsOf(prices: Prices | undefined, model: string | null, tokens: Tokens): bigint | null {
  const price = priceOf(prices, model)
  if (price) return total(price, tokens)
  return Object.values(tokens).every((count) => count === 0) ? 0n : null
}

export function usd(units: bigint): number {
  return Number(units) / UNITS_PER_USD
}

function priceOf(prices: Prices | undefined, model: string | null): Price | undefined {
  if (!prices) return undefined
  return model !== null && Object.hasOwn(prices, model) ? prices[model] : prices['*']
}

/** Tokens that go by the cache cost what input costs where the list says nothing of them. */
function total(price: Price, tokens: Tokens): bigint {
  return (
    part(tokens.input_tokens, price.input) +
    part(tokens.output_tokens, price.output) +
    part(tokens.cache_creation_input_tokens, price.cache_write ?? price.input) +
    part(tokens.cache_read_input_tokens, price.cache_read ?? price.input)
  )
}

function part(tokens: number, price: number): bigint {
  return BigInt(Math.round(tokens)) * BigInt(Math.round(price * PRICE_SCALE))
}
