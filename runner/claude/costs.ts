/**
 * What each turn cost, out of the totals that a CLI keeps over its whole life. In billionths of a dollar, as the books of
 * the router are, so that the turns add up to the total and no rounding of floating point is left over.
 */

const NANOS = 1_000_000_000

export class Costs {
  #nanos = 0

  /**
   * USD since the total that was told before. Less than that can only be a forged one: it costs nothing, and it counts as
   * told, so that what a tool wrote to stdout once is put right by the next true total.
   */
  since(totalUsd: number): number {
    const nanos = Math.round(totalUsd * NANOS)
    const more = Math.max(0, nanos - this.#nanos)
    this.#nanos = nanos
    return more / NANOS
  }
}
