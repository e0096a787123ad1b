/**
 * Finds and kills what a CLI left behind. Each Bash tool runs in a session of its own (`setsid`), so a kill of the CLI's
 * process group misses it; what all of them inherit is the marker in their environment.
 *
 * A child that cleaned its environment is known only while it descends from a marked process or from a family that was
 * noted before its parent died: the caller notes it before each signal. Without `/proc` (not Linux) nothing is found.
 */
import { readFile as readFileByCallback } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { MARKER_NAME } from './env.ts'

/** A pid alone may have been given to a stranger since; with the start time it names one process. */
export type ProcessRef = { pid: number; startedAt: string }

/** With its process group. */
export type Relative = ProcessRef & { group: number }

type Stat = Relative & { parent: number; hasMemory: boolean }
type Row = Stat & { marker: string | undefined }

/** A table of all processes is hundreds of small files: with file handles it takes twice the CPU. */
const readFile = promisify(readFileByCallback)

/** A SIGKILL takes effect within milliseconds unless the process hangs in the kernel; then no waiting helps. */
const GIVE_UP_MS = 5_000
const ROUND_MS = 10

/** Kills every process with the marker, and every one of `family`, with all their descendants. Returns how many it killed. */
export async function sweep(marker: string, family: readonly ProcessRef[] = []): Promise<number> {
  const killed = new Set<string>()
  const deadline = performance.now() + GIVE_UP_MS
  for (;;) {
    const doomed = doomedOf(await processTable(), marker, family)
    if (doomed.length === 0 || performance.now() > deadline) return killed.size
    for (const { pid, startedAt } of doomed) {
      if (kill(pid)) killed.add(`${pid} ${startedAt}`)
    }
    // They may have forked while the table was read: only an empty round ends it.
    await sleep(ROUND_MS)
  }
}

/** The process and everything below it, as it is now. */
export async function familyOf(pid: number): Promise<Relative[]> {
  const rows = await processTable()
  return below(rows, rows.filter((row) => row.pid === pid))
}

/**
 * The process and what is below it, without a look at all others: a table costs 5 ms of CPU and more. One that is just
 * being born may be missed (proc_pid_children(5)). Undefined where the kernel does not tell.
 */
export async function descendantsOf(pid: number): Promise<ProcessRef[] | undefined> {
  const row = await readStat(String(pid))
  if (!row) return []
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  const lists = threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => undefined))
  const told = (await Promise.all(lists)).filter((list) => list !== undefined)
  if (told.length === 0) return undefined
  const children = told.flatMap((list) => list.split(' ').filter((one) => one !== '')).map(Number)
  const lower = await Promise.all(children.map((child) => descendantsOf(child)))
  return [row, ...lower.flatMap((refs) => refs ?? [])]
}

/** All that carries the marker, and the process, with everything below them. */
export async function householdOf(pid: number, marker: string): Promise<Relative[]> {
  const rows = await processTable()
  return below(rows, rows.filter((row) => row.pid === pid || row.marker === marker))
}

function doomedOf(rows: readonly Row[], marker: string, family: readonly ProcessRef[]): Row[] {
  const known = new Set(family.map(({ pid, startedAt }) => `${pid} ${startedAt}`))
  return below(rows, rows.filter((row) => row.marker === marker || known.has(`${row.pid} ${row.startedAt}`)))
}

function below(rows: readonly Row[], roots: readonly Row[]): Row[] {
  const children = new Map<number, Row[]>()
  for (const row of rows) children.set(row.parent, [...(children.get(row.parent) ?? []), row])
  const found = new Set<Row>()
  const next = [...roots]
  for (let row = next.pop(); row; row = next.pop()) {
    // The runner may itself run below a marked process, or carry a marker: neither it nor its own children are prey.
    if (found.has(row) || row.pid === process.pid) continue
    found.add(row)
    next.push(...(children.get(row.pid) ?? []))
  }
  return [...found]
}

let nextTable: Promise<Row[]> | undefined

/** Begun after the call. Calls that come together share one reading: a runner that was killed sweeps for all its runs at once. */
function processTable(): Promise<Row[]> {
  nextTable ??= new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    nextTable = undefined
    return readTable()
  })
  return nextTable
}

async function readTable(): Promise<Row[]> {
  const names = await readdir('/proc').catch(() => [])
  const rows = await Promise.all(names.filter((name) => /^\d+$/.test(name)).map((name) => readRow(name)))
  return rows.filter((row) => row !== undefined)
}

async function readRow(name: string): Promise<Row | undefined> {
  const row = await readStat(name)
  // The environment is in its memory, which threads of the kernel have none of: half of all, on a quiet machine.
  return row && { ...row, marker: row.hasMemory ? await markerOf(name) : undefined }
}

async function readStat(name: string): Promise<Stat | undefined> {
  try {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8')
    // The second field is the command in brackets and may hold blanks and brackets itself (proc_pid_stat(5)).
    const [state, parent, group, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A zombie is dead; only its parent can take it away.
    if (state === 'Z' || state === 'X') return undefined
    return { pid: Number(name), parent: Number(parent), group: Number(group), startedAt: rest[16] ?? '', hasMemory: rest[17] !== '0' }
  } catch {
    // It ended while it was read.
    return undefined
  }
}

async function markerOf(name: string): Promise<string | undefined> {
  // Not readable: another user's process, so none that was started here.
  const environ = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => '')
  const entry = `\0${environ}`.split(`\0${MARKER_NAME}=`)[1]
  return entry?.split('\0')[0]
}

function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch {
    // It is gone, or not ours to kill.
    return false
  }
}
