/**
 * Both hosts side by side on one machine: every round measures the one and then the other, in turn first, so that what
 * the machine does meanwhile meets both. The first round warms up and is not counted. Medians of the rest.
 */
import { quantile } from '../test/chaos/table.ts'
import type { HostName } from '../test/chaos/routers.ts'
import { bulk, lag } from './measure.ts'
import { openRig, type Rig } from './rig.ts'

export interface HostsOptions {
  readonly rounds: number
  /** Lines of the single run; the runs that go at once have a quarter of it each. */
  readonly events: number
  /** How long lags are looked at. */
  readonly seconds: number
  readonly say: (text: string) => void
}

const SLOTS = 64
const AT_ONCE = 8
const HOSTS = ['node', 'workers'] as const

/** One number of each round and host, by what it measures. */
export type Samples = Record<string, Record<HostName, number[]>>
export type Medians = Record<string, Record<HostName | 'ratio', number>>

export async function compareHosts({ rounds, events, seconds, say }: HostsOptions): Promise<Samples> {
  const rigs: Rig[] = []
  const samples: Samples = {}
  try {
    for (const host of HOSTS) rigs.push(await openRig(host, SLOTS))
    for (let round = 0; round <= rounds; round++) {
      for (const rig of round % 2 === 0 ? rigs : rigs.toReversed()) {
        const found = await measured(rig, events, seconds)
        say(`${round === 0 ? 'warm-up' : `round ${round}`} ${rig.host}: ${Object.entries(found).map(([name, n]) => `${name} ${shown(n)}`).join(', ')}`)
        if (round === 0) continue
        for (const [name, n] of Object.entries(found)) (samples[name] ??= { node: [], workers: [] })[rig.host].push(n)
      }
    }
  } finally {
    for (const rig of rigs) await rig.close()
  }
  return samples
}

async function measured(rig: Rig, events: number, seconds: number): Promise<Record<string, number>> {
  const one = await bulk(rig, 1, events)
  const many = await bulk(rig, AT_ONCE, Math.ceil(events / 4))
  const alone = await lag(rig, 1, seconds)
  const crowd = await lag(rig, SLOTS, seconds)
  return {
    'events/s, 1 run': one.events_per_s,
    [`events/s, ${AT_ONCE} runs`]: many.events_per_s,
    'router CPU s per 100k events, 1 run': one.router_cpu_s,
    [`router CPU s per 100k events, ${AT_ONCE} runs`]: many.router_cpu_s,
    [`runner CPU s per 100k events, ${AT_ONCE} runs`]: many.runner_cpu_s,
    'lag p50 ms, 1 stream': alone.p50_ms,
    'lag p99 ms, 1 stream': alone.p99_ms,
    [`lag p50 ms, ${SLOTS} streams`]: crowd.p50_ms,
    [`lag p99 ms, ${SLOTS} streams`]: crowd.p99_ms,
    [`router CPU ms per s and stream, ${SLOTS} streams`]: crowd.cpu_ms_per_stream,
  }
}

export function medians(samples: Samples): Medians {
  const median = (values: readonly number[]) => quantile(values, 0.5)
  return Object.fromEntries(
    Object.entries(samples).map(([name, { node, workers }]) => [name, { node: median(node), workers: median(workers), ratio: median(workers) / median(node) }]),
  )
}

export function table(found: Medians): string {
  const rows = [['', 'node', 'workers', 'workers/node'], ...Object.entries(found).map(([name, m]) => [name, shown(m.node), shown(m.workers), m.ratio.toFixed(2)])]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  ')).join('\n')
}

function shown(n: number): string {
  return n >= 100 ? String(Math.round(n)) : n.toFixed(2)
}
