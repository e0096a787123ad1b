/**
 * Finds and kills what a CLI left behind. Each Bash tool runs in a session of its own (`setsid`), so a kill of the CLI's
 * process group misses it; what all of them inherit is the marker in their environment.
 *
 * A child that cleaned its environment is known only while it descends from a marked process or from a family that was
 * noted before its parent died: the caller notes it before each signal. Without `/proc` (not Linux) nothing is found.
 */
import { readFile, readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { processTable, readStat, type ProcessRef, type Relative, type Row } from './process-table.ts'

export type { ProcessRef, Relative } from './process-table.ts'

/** A SIGKILL takes effect within milliseconds unless the process hangs in the kernel; then no waiting helps. */
const GIVE_UP_MS = 5_000
const ROUND_MS = 10
/** Rounds that found nobody and could not be sure of it. Where strangers come and go all the time, none of them can. */
const DOUBTS = 3

/** Kills every process with the marker, and every one of `family`, with all their descendants. Returns how many it killed. */
export async function sweep(marker: string, family: readonly ProcessRef[] = []): Promise<number> {
  const killed = new Set<string>()
  const deadline = performance.now() + GIVE_UP_MS
  for (let doubts = 0; performance.now() < deadline; ) {
    const { rows, isWhole } = await processTable()
    const doomed = doomedOf(rows, marker, family)
    if (doomed.length === 0 && (isWhole || ++doubts === DOUBTS)) break
    for (const { pid, startedAt } of doomed) {
      if (kill(pid)) killed.add(`${pid} ${startedAt}`)
    }
    // They may have forked while the table was read: only an empty round that was whole ends it.
    await sleep(ROUND_MS)
  }
  return killed.size
}

/** The process and everything below it, as it is now. */
export async function familyOf(pid: number): Promise<Relative[]> {
  const { rows } = await processTable()
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
  const { rows } = await processTable()
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

function kill(pid: number): boolean {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch {
    // It is gone, or not ours to kill.
    return false
  }
}
