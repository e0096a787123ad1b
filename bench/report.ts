/** What a bench found, for people (a table, also in markdown) and for machines (JSON). */
import { execFileSync } from 'node:child_process'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { ROOT } from '../test/chaos/processes.ts'
import { reached, shownNumber, type Counts, type Row } from './programme.ts'

export interface Found {
  readonly programme: string
  readonly rows: readonly Row[]
  readonly counts: Readonly<Counts>
  readonly seconds: number
  /** The share of the machine's time that other machines on the same hardware had meanwhile. */
  readonly stolen: number
  /** Why it has no rows, or not all. */
  readonly error?: string
}

export interface Report {
  readonly bench: 'runyard'
  readonly date: string
  readonly commit: string | null
  readonly machine: object
  readonly options: object
  readonly programmes: readonly Found[]
}

export function report(options: object, programmes: readonly Found[]): Report {
  return { bench: 'runyard', date: new Date().toISOString(), commit: commit(), machine: machine(), options, programmes }
}

export const failed = ({ counts, error }: Found): boolean => error !== undefined || Object.values(counts).some((n) => n > 0)

const HEAD = ['goal', 'what', 'unit', 'ours', 'floor', 'ratio', 'limit', '']

function cellsOf(row: Row): string[] {
  const { goal, what, unit, ours, floor, ratio, limit } = row
  const sign = limit?.better === 'more' ? '≥' : '≤'
  const bound = limit === undefined ? '' : `${sign} ${limit.kind === 'ratio' ? `${limit.at} ×` : shownNumber(limit.at)}`
  const verdict = { true: 'reached', false: 'missed', undefined: limit === undefined ? '' : 'no number' }[`${reached(row)}`]
  const number = (n: number | undefined) => (n === undefined ? '' : shownNumber(n))
  return [goal, what, unit, shownNumber(ours), number(floor), ratio === undefined ? '' : Number.isNaN(ratio) ? '-' : ratio.toFixed(2), bound, verdict]
}

/** Rows of all programmes in the order of their goals; what belongs to none comes last. */
function ordered(programmes: readonly Found[]): Row[] {
  const rank = ({ goal }: Row) => (goal === '' ? Number.POSITIVE_INFINITY : Number.parseInt(goal, 10))
  return programmes.flatMap(({ rows }) => rows).toSorted((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)))
}

const RIGHT = new Set([3, 4, 5, 6])

export function table(programmes: readonly Found[], short: boolean): string {
  // A short bench has too few samples to say what was reached.
  const shownCells = (row: Row) => (short ? [...cellsOf(row).slice(0, -2), '', ''] : cellsOf(row))
  const lines = [HEAD, ...ordered(programmes).map(shownCells)]
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  const shown = lines.map((line) => line.map((cell, i) => (RIGHT.has(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join('  ').trimEnd())
  return [...shown, '', ...programmes.map(summary)].join('\n')
}

export function markdown({ programmes, date, commit: of, machine: on }: Report): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const rule = line(HEAD.map((_, i) => (RIGHT.has(i) ? '--:' : '---')))
  const { cpu, cores, node } = on as Machine
  const from = `${date.slice(0, 10)}, commit ${of ?? 'unknown'}, ${cores} × ${cpu}, Node ${node}`
  return [from, '', line(HEAD), rule, ...ordered(programmes).map((row) => line(cellsOf(row))), '', ...programmes.map((found) => `- ${summary(found)}`)].join('\n')
}

/** Less is not worth a word; from a tenth on, times and lags say little. */
const WORTH_SAYING = 0.01

function summary({ programme, counts, seconds, stolen, error }: Found): string {
  const { lost, reordered, corrupt, broken } = counts
  const others = stolen < WORTH_SAYING ? '' : `; other machines had ${Math.round(stolen * 100)} % of the processors`
  const said = `${programme}: ${lost} lost, ${reordered} reordered, ${corrupt} corrupt, ${broken} broken streams, in ${Math.round(seconds)} s${others}`
  return error === undefined ? said : `${said}; it failed: ${error}`
}

/** With a `+` when there are changes that no commit has; null outside a checkout. */
function commit(): string | null {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no', 'router', 'runner', 'shared', 'bench')
    return git('rev-parse', '--short', 'HEAD') + (changed === '' ? '' : '+')
  } catch {
    return null
  }
}

type Machine = ReturnType<typeof machine>

/** `load`: processes that ran or waited to, in the minute before the end; the bench's own are among them. */
function machine() {
  const [cpu] = cpus()
  const os = `${process.platform} ${release()}`
  return { cpu: cpu?.model.trim() ?? 'unknown', cores: cpus().length, memory_gib: Math.round(totalmem() / 1024 ** 3), os, node: process.version, load: loadavg()[0] }
}
