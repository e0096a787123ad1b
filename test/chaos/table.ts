/** Numbers of a chaos run, and how a person reads them. */
import type { Violation, Watch } from './oracle.ts'

export type Row = {
  fault: string
  /** Why it was not done; then there are no numbers. */
  skipped?: string
  runs: number
  refused: number
  /** By how they ended, such as `succeeded` or `failed crashed`. */
  endings: Record<string, number>
  injections: number
  violations: Violation[]
  /** The longest silence of a client that was reading when the fault struck, in ms. */
  gap: { n: number; p50: number; p99: number; max: number }
  notes: Record<string, number>
}

/** `q` from 0 to 1, by nearest rank. 0 of nothing. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? 0
}

/**
 * For each injection and each subscriber that was in the middle of its stream then: the longest silence from there to
 * the next injection. The time between two lines of the CLI is in it.
 */
export function gaps(watches: readonly Watch[], injections: readonly number[]): number[] {
  return injections.flatMap((from, i) => {
    const to = injections[i + 1] ?? Infinity
    return watches.flatMap(({ events }) => {
      const first = events[0]
      const last = events.at(-1)
      if (!first || !last || first.at > from || last.at < from) return []
      let longest = 0
      for (const [n, { at }] of events.entries()) {
        const before = events[n - 1]?.at
        if (before !== undefined && at > from && before < to) longest = Math.max(longest, at - before)
      }
      return [longest]
    })
  })
}

export function gapNumbers(silences: readonly number[]): Row['gap'] {
  const round = (ms: number) => Math.round(ms)
  return { n: silences.length, p50: round(quantile(silences, 0.5)), p99: round(quantile(silences, 0.99)), max: round(quantile(silences, 1)) }
}

export function table(rows: readonly Row[]): string {
  const head = ['fault', 'runs', 'injected', 'violations', 'gap p50', 'gap p99', 'gap max', '']
  const cells = rows.map((row) => {
    if (row.skipped !== undefined) return [row.fault, '-', '-', '-', '-', '-', '-', `skipped: ${row.skipped}`]
    const { gap, notes } = row
    const seconds = (ms: number) => (gap.n === 0 ? '-' : `${(ms / 1_000).toFixed(2)} s`)
    const ends = Object.entries(row.endings).filter(([end]) => end !== 'succeeded').map(([end, n]) => `${n} ${end}`)
    const said = Object.entries(notes).map(([name, value]) => `${name.replace(/ (\S+)$/, '')} ${value.toFixed(1)} ${name.split(' ').at(-1)}`)
    return [row.fault, `${row.runs}`, `${row.injections}`, `${row.violations.length}`, seconds(gap.p50), seconds(gap.p99), seconds(gap.max), [...ends, ...said].join(', ')]
  })
  const widths = head.map((_, column) => Math.max(...[head, ...cells].map((row) => row[column]!.length)))
  const line = (row: readonly string[]) => row.map((cell, column) => (column === 0 || column === 7 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join('  ').trimEnd()
  return [line(head), ...cells.map(line)].join('\n')
}
