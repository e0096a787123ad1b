/** `npm run bench -- <programme>`: numbers of this machine, for people or as JSON. Fails on what was lost, never on time. */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { killAll } from '../test/chaos/processes.ts'
import { stopAll } from './children.ts'
import { machineTime, stolenSince } from './proc.ts'
import { noCounts, type Context, type Counts, type Programme } from './programme.ts'
import { besides, programmes } from './programmes/index.ts'
import { failed, markdown, report, table, type Found } from './report.ts'
import { removeAllTemp } from './temp.ts'

const { values, positionals } = options()
const wanted = positionals.length === 0 || positionals.includes('all') ? programmes : positionals.map(byName)
const rounds = whole('rounds', 1)
const seed = whole('seed', 0)

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    stopAll()
    killAll()
    removeAllTemp()
    process.exit(130)
  })
}

const found: Found[] = []
for (const programme of wanted) found.push(await run(programme))
const all = report({ rounds, seed, short: values.short }, found)
if (values.out !== undefined) await writeFile(values.out, `${JSON.stringify(all, null, 2)}\n`)
if (values.json) process.stdout.write(`${JSON.stringify(all, null, 2)}\n`)
else process.stdout.write(`${values.markdown ? markdown(all) : table(found, values.short)}\n`)
process.exit(found.some(failed) ? 1 : 0)

async function run(programme: Programme): Promise<Found> {
  say(`${programme.name}: ${programme.about}`)
  const counts = noCounts()
  const saw = (more: Readonly<Counts>) => {
    for (const name of Object.keys(counts) as (keyof Counts)[]) counts[name] += more[name]
  }
  const context: Context = { rounds, seed, short: values.short, say, saw }
  const [began, time] = [performance.now(), machineTime()]
  const end = () => ({ programme: programme.name, counts, seconds: (performance.now() - began) / 1_000, stolen: stolenSince(time) })
  try {
    const rows = await programme.run(context)
    return { ...end(), rows }
  } catch (error) {
    say(`${programme.name} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    return { ...end(), rows: [], error: error instanceof Error ? error.message : String(error) }
  }
}

function byName(name: string): Programme {
  const programme = [...programmes, ...besides].find((one) => one.name === name)
  if (programme) return programme
  say(`there is no programme ${name}\n${usage()}`)
  process.exit(2)
}

function usage(): string {
  const lines = [...programmes, ...besides].map((one) => `  ${one.name.padEnd(12)}${one.about}`)
  return ['usage: npm run bench -- [all | programme …] [--rounds=5] [--seed=n] [--short] [--json | --markdown] [--out=file]', ...lines].join('\n')
}

function options() {
  try {
    const given = parseArgs({
      allowPositionals: true,
      options: {
        rounds: { type: 'string', default: '5' },
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        short: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        markdown: { type: 'boolean', default: false },
        out: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (!given.values.help) return given
    process.stdout.write(`${usage()}\n`)
    process.exit(0)
  } catch (error) {
    say(`${error instanceof Error ? error.message : String(error)}\n${usage()}`)
    process.exit(2)
  }
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

function whole(name: 'rounds' | 'seed', least: number): number {
  const n = Number(values[name])
  if (Number.isInteger(n) && n >= least) return n
  say(`--${name} must be a whole number from ${least} on`)
  process.exit(2)
}
