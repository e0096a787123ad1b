/**
 * What a programme of the bench is, and how it measures: several targets in one run, interleaved and in a new order each
 * round, so that whatever else the machine does meets all of them.
 *
 * What is measured, and against which floor, is the programme's; how rows are shown is report.ts's.
 */
import { quantile } from '../test/chaos/table.ts'
import { shuffled } from './shuffle.ts'

/** What may never happen, however slow the machine is. `broken`: streams that were refused, cut, or lied in their last event. */
export interface Counts {
  lost: number
  reordered: number
  corrupt: number
  broken: number
}

export const noCounts = (): Counts => ({ lost: 0, reordered: 0, corrupt: 0, broken: 0 })

export interface Context {
  readonly rounds: number
  /** A few seconds for the whole programme, in which only correctness counts. */
  readonly short: boolean
  readonly seed: number
  say(text: string): void
  /** Adds what a load client counted. Anything above 0 fails the bench. */
  saw(counts: Readonly<Counts>): void
}

export interface Limit {
  /** Of `ratio` or of `ours`. */
  readonly kind: 'ratio' | 'absolute'
  readonly at: number
  readonly better: 'less' | 'more'
}

export interface Row {
  /** Such as `3`; empty for a number that belongs to no goal. */
  readonly goal: string
  readonly what: string
  readonly unit: string
  readonly ours: number
  readonly floor?: number
  /** Median of the ratios of the rounds, ours to the floor's of the same round. */
  readonly ratio?: number
  readonly limit?: Limit
  readonly samples: { readonly ours: readonly number[]; readonly floor?: readonly number[] }
}

export interface Programme {
  readonly name: string
  readonly about: string
  run(context: Context): Promise<Row[]>
}

/** One number of each counted round, by target and by what it measures. */
export type Samples<T extends string> = Record<T, Record<string, number[]>>

export interface RoundsOptions {
  /** No more than so many, for what takes long. */
  readonly most?: number
  /** Each measurement has processes of its own, or those that were warm before: there is no round to warm up. */
  readonly fresh?: boolean
}

/**
 * `measure` for every target in every round. The first round warms up and is not counted, but in a short bench it is the
 * only one.
 */
export async function rounds<T extends string>(
  context: Context,
  targets: readonly T[],
  measure: (target: T, round: number) => Promise<Readonly<Record<string, number>>>,
  { most = Infinity, fresh = false }: RoundsOptions = {},
): Promise<Samples<T>> {
  const samples = Object.fromEntries(targets.map((target) => [target, {}])) as Samples<T>
  const last = context.short ? 0 : Math.min(context.rounds, most)
  for (let round = fresh && !context.short ? 1 : 0; round <= last; round++) {
    for (const target of shuffled(targets, context.seed + round)) {
      const found = await measure(target, round)
      const numbers = Object.entries(found).map(([name, n]) => `${name} ${shownNumber(n)}`)
      context.say(`  ${named(context, round)} ${target}: ${numbers.join(', ')}`)
      if (round === 0 && !context.short) continue
      const mine: Record<string, number[]> = samples[target]
      for (const [name, n] of Object.entries(found)) (mine[name] ??= []).push(n)
    }
  }
  return samples
}

function named({ short }: Context, round: number): string {
  if (short) return 'only round,'
  return round === 0 ? 'warm-up,' : `round ${round},`
}

/** Of those that are numbers: what could not be measured in a round is none. Not a number when none is. */
export function median(values: readonly number[]): number {
  const numbers = values.filter((n) => Number.isFinite(n))
  return numbers.length === 0 ? Number.NaN : quantile(numbers, 0.5)
}

/** A row that stands alone. */
export function alone(about: Pick<Row, 'goal' | 'what' | 'unit' | 'limit'>, ours: readonly number[]): Row {
  return { ...about, ours: median(ours), samples: { ours } }
}

/** A row against its floor; the two have one sample a round each, in the order of the rounds. A floor that was left out leaves it alone. */
export function against(about: Pick<Row, 'goal' | 'what' | 'unit' | 'limit'>, ours: readonly number[], floor: readonly number[]): Row {
  if (floor.length === 0) return alone(about, ours)
  const ratio = median(ours.map((n, i) => n / (floor[i] ?? Number.NaN)))
  return { ...about, ours: median(ours), floor: median(floor), ratio, samples: { ours, floor } }
}

/** Undefined for a row without a limit, and for one that came to no number. */
export function reached({ limit, ratio, ours }: Row): boolean | undefined {
  const n = limit?.kind === 'ratio' ? (ratio ?? Number.NaN) : ours
  if (!limit || Number.isNaN(n)) return undefined
  return limit.better === 'less' ? n <= limit.at : n >= limit.at
}

/** Three figures are all that a measurement is good for. */
export function shownNumber(n: number): string {
  if (!Number.isFinite(n)) return '-'
  return Math.abs(n) >= 100 ? String(Math.round(n)) : n.toFixed(Math.abs(n) >= 10 ? 1 : 2)
}
