/** `npm run bench -- hosts`: numbers of this machine, for people or as JSON. */
import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { killAll, ROOT } from '../test/chaos/processes.ts'
import { compareHosts, medians, table } from './hosts.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    events: { type: 'string', default: '50000' },
    seconds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
})

const say = (text: string) => void process.stderr.write(`${text}\n`)
if (positionals.join() !== 'hosts') {
  say('usage: npm run bench -- hosts [--rounds=5] [--events=50000] [--seconds=5] [--json]')
  process.exit(2)
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    killAll()
    process.exit(130)
  })
}

const of = { bench: 'hosts', date: new Date().toISOString(), commit: commit(), machine: machine(), options: values }
const samples = await compareHosts({ rounds: positive('rounds'), events: positive('events'), seconds: positive('seconds'), say })
const found = medians(samples)
if (values.json) process.stdout.write(`${JSON.stringify({ ...of, medians: found, samples }, null, 2)}\n`)
else process.stdout.write(`${table(found)}\n`)
process.exit(0)

function positive(name: 'rounds' | 'events' | 'seconds'): number {
  const n = Number(values[name])
  if (Number.isInteger(n) && n > 0) return n
  say(`--${name} must be a whole number above 0`)
  process.exit(2)
}

/** With a `+` when there are changes that no commit has; null outside a checkout. */
function commit(): string | null {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no', 'router', 'runner', 'shared') === '' ? '' : '+')
  } catch {
    return null
  }
}

function machine(): object {
  const [cpu] = cpus()
  return { cpu: cpu?.model.trim(), cores: cpus().length, memory_gib: Math.round(totalmem() / 1024 ** 3), os: `${process.platform} ${release()}`, node: process.version }
}
