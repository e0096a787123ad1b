/** Times in µs, kept to within 1.6 %, in little memory: 64 steps for each doubling. Of several, one can be made. */

const STEPS = 64

export class Histogram {
  readonly #counts = new Map<number, number>()
  count = 0
  maxUs = 0

  add(us: number, times = 1): void {
    const at = Math.max(1, us)
    this.count += times
    if (at > this.maxUs) this.maxUs = at
    const step = Math.floor(Math.log2(at) * STEPS)
    this.#counts.set(step, (this.#counts.get(step) ?? 0) + times)
  }

  /** `q` from 0 to 1, in ms; not a number of nothing. */
  ms(q: number): number {
    if (this.count === 0) return Number.NaN
    let left = Math.max(1, Math.ceil(q * this.count))
    for (const [step, n] of [...this.#counts].toSorted(([a], [b]) => a - b)) {
      left -= n
      if (left <= 0) return Math.min(this.maxUs, 2 ** ((step + 0.5) / STEPS)) / 1_000
    }
    return this.maxUs / 1_000
  }

  get maxMs(): number {
    return this.maxUs / 1_000
  }

  pack(): Packed {
    return { maxUs: this.maxUs, counts: [...this.#counts] }
  }

  merge({ maxUs, counts }: Packed): this {
    for (const [step, n] of counts) {
      this.#counts.set(step, (this.#counts.get(step) ?? 0) + n)
      this.count += n
    }
    this.maxUs = Math.max(this.maxUs, maxUs)
    return this
  }
}

/** As it travels between processes. */
export type Packed = { readonly maxUs: number; readonly counts: readonly (readonly [number, number])[] }
