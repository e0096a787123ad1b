/**
 * `npm run chaos`: every fault on a stage of its own, judged by the oracle. Exit code 1 when anything was violated.
 *
 * Options in docs/chaos.md. It is bounded in time, and leaves nothing behind; of a fault with violations the logs stay.
 */
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import type { Fault } from './fault.ts'
import { FAULTS } from './faults.ts'
import { runFault } from './run-fault.ts'
import { unmountAll } from './host-faults.ts'
import { killAll } from './processes.ts'
import type { HostName } from './routers.ts'
import { closeAllStages } from './stage.ts'
import { table, type Row } from './table.ts'

/** What the default times of the faults add up to, with three stages at a time. */
const DEFAULT_MINUTES = 5
const CI_SCALE = 0.4
const LONGEST_RUN_MS = { ordinary: 12_000, ci: 5_000 }
/** In the short form what takes longer is left out. */
const CI_LONGEST_S = 50

const USAGE = 'usage: npm run chaos -- [--fault=NAME]… [--host=node | --host=workers] [--minutes=n] [--streams=n] [--ci] [--json] [--list]\n--list shows the faults; docs/chaos.md says more'

const say = (text: string) => void process.stderr.write(`${text}\n`)
const out = (text: string) => void process.stdout.write(`${text}\n`)

const values = options()
if (values.help) {
  out(USAGE)
  process.exit(0)
}
if (values.list) {
  out(FAULTS.map(({ name, what }) => `${name.padEnd(20)}${what}`).join('\n'))
  process.exit(0)
}
const host = values.host
if (!isHost(host)) usage('--host must be node or workers')
const minutes = positive('minutes', values.minutes)
const chosen = FAULTS.filter(({ name }) => !values.fault || values.fault.includes(name))
const unknown = values.fault?.filter((name) => !FAULTS.some((fault) => fault.name === name)) ?? []
if (unknown.length > 0) usage(`no fault ${unknown.join(', ')}; --list shows them`)

// One fault alone gets the machine; several wait for each other most of the time.
const stages = Math.min(chosen.length, values.ci ? 5 : 3)
/** A core prints, spools, relays and reads about so many streams without being itself the fault. */
const streams = positive('streams', values.streams) ?? Math.min(values.ci ? 30 : 64, 32 * availableParallelism())
const scale = values.ci ? CI_SCALE : stages === 1 && minutes !== undefined ? undefined : (minutes ?? DEFAULT_MINUTES) / DEFAULT_MINUTES

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (stop.signal.aborted) void leave(130)
    say('stopping; once more to leave at once')
    stop.abort()
  })
}

const queue = chosen.toSorted((a, b) => b.seconds - a.seconds)
const rows = new Map<string, Row>()
const startedAt = performance.now()
await Promise.all(
  Array.from({ length: stages }, async () => {
    for (let fault = queue.shift(); fault && !stop.signal.aborted; fault = queue.shift()) {
      const least = fault.leastSeconds ?? 0
      const seconds = Math.max(least, scale === undefined ? (minutes ?? 1) * 60 : fault.seconds * scale)
      const left = (values.ci ? notInCi(fault, seconds) : undefined) ?? fault.skip?.()
      const longestRunMs = values.ci ? LONGEST_RUN_MS.ci : LONGEST_RUN_MS.ordinary
      const run = () => runFault(fault, { host: fault.host ?? host, seconds, streams: Math.max(1, Math.floor(streams / stages)), longestRunMs, signal: stop.signal, say })
      const row = left === undefined ? await run() : skipped(fault.name, left)
      rows.set(fault.name, row)
    }
  }),
)

const inOrder = chosen.flatMap(({ name }) => rows.get(name) ?? [])
const violations = inOrder.flatMap((row) => row.violations.map((violation) => ({ fault: row.fault, ...violation })))
if (values.json) out(JSON.stringify({ seconds: Math.round((performance.now() - startedAt) / 1_000), streams, violations: violations.length, faults: inOrder }, null, 2))
else {
  out(table(inOrder))
  for (const { fault, rule, key, what } of violations.slice(0, 50)) out(`${fault}: ${rule} ${key}: ${what}`)
  out(`${violations.length} violations in ${inOrder.reduce((sum, row) => sum + row.runs, 0)} runs, ${Math.round((performance.now() - startedAt) / 1_000)} s`)
}
await leave(stop.signal.aborted ? 130 : violations.length > 0 ? 1 : 0)

function options() {
  try {
    return parseArgs({
      options: {
        fault: { type: 'string', multiple: true },
        host: { type: 'string', default: 'node' },
        minutes: { type: 'string' },
        streams: { type: 'string' },
        ci: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    return usage(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
  }
}

function notInCi({ notInCi: why }: Fault, seconds: number): string | undefined {
  return why ?? (seconds > CI_LONGEST_S ? `it takes ${seconds} s, too long for the short form` : undefined)
}

function isHost(name: string): name is HostName {
  return name === 'node' || name === 'workers'
}

function skipped(fault: string, why: string): Row {
  say(`${fault}: skipped: ${why}`)
  return { fault, skipped: why, runs: 0, refused: 0, endings: {}, injections: 0, violations: [], gap: { n: 0, p50: 0, p99: 0, max: 0 }, notes: {} }
}

function positive(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!(value > 0)) usage(`--${name} must be a number above 0`)
  return value
}

function usage(message: string): never {
  say(message)
  process.exit(2)
}

async function leave(code: number): Promise<never> {
  killAll()
  unmountAll()
  await closeAllStages()
  process.exit(code)
}
