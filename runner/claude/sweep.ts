/**
 * Finds and kills what a CLI left behind. Each Bash tool runs in a session of its own (`setsid`), so a kill of the CLI's
 * process group misses it; what all of them inherit is the marker in their environment.
 *
 * A child that cleaned its environment is known only while it descends from a marked process or from a family that was
 * noted before its parent died: the caller notes it before each signal. The same holds for one that wrote over its environment,
 * and for one that the kernel lets nobody look into. Without `/proc` (not Linux) nothing is found.
 *
 * Who carries the marker is stopped where it is met, so it starts nobody else until it is killed. One that starts another and
 * exits before it can be met leaves no table whole, but that may go on for longer than is looked: `unsure` tells that a sweep
 * ended without knowing.
 */
import { readFile, readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { processTable, readStat, type ProcessRef, type Relative, type Row } from './process-table.ts'

export type { ProcessRef, Relative } from './process-table.ts'

/** A SIGKILL takes effect within milliseconds unless the process hangs in the kernel; then no waiting helps. */
const GIVE_UP_MS = 5_000
const ROUND_MS = 10
/** Rounds in a row that found nobody and could not be sure of it. Where strangers come and go all the time, none of them can. */
const DOUBTS = 5

/** Kills every process with the marker, and every one of `family`, with all their descendants. Returns how many it killed. */
export async function sweep(marker: string, family: readonly ProcessRef[] = [], unsure?: () => void): Promise<number> {
  const killed = new Set<string>()
  const noted = new Set(family.map(nameOf))
  const isRoot = (row: Row): boolean => row.pid !== process.pid && (row.marker === marker || noted.has(nameOf(row)))
  // Not yet killed: who is below it could not be told from others any more.
  const meet = (row: Row): void => void (isRoot(row) && signal(row.pid, 'SIGSTOP'))
  const deadline = performance.now() + GIVE_UP_MS
  for (let doubts = 0; ; ) {
    const { rows, isWhole } = await processTable(meet)
    const doomed = below(rows, rows.filter(isRoot))
    if (doomed.length === 0 && isWhole) break
    for (const row of doomed) {
      if (signal(row.pid, 'SIGKILL')) killed.add(nameOf(row))
    }
    doubts = doomed.length === 0 ? doubts + 1 : 0
    if (doubts === DOUBTS || performance.now() >= deadline) {
      unsure?.()
      break
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
  const row = await readStat(String(pid)).catch(() => 'unread' as const)
  if (row === 'unread') return undefined
  if (!row) return []
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  const lists = threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => undefined))
  const told = (await Promise.all(lists)).filter((list) => list !== undefined)
  if (told.length === 0) return undefined
  const children = told.flatMap((list) => list.split(' ').filter((one) => one !== '')).map(Number)
  const lower = await Promise.all(children.map((child) => descendantsOf(child)))
  return [row, ...lower.flatMap((refs) => refs ?? [])]
}

/** All that carries the marker, and the process, with everything below them; and whether nobody can have been missed. */
export async function householdOf(pid: number, marker: string): Promise<{ members: Relative[]; isWhole: boolean }> {
  const { rows, isWhole } = await processTable()
  return { members: below(rows, rows.filter((row) => row.pid === pid || row.marker === marker)), isWhole }
}

/** A pid alone may be another's by now. */
export function nameOf({ pid, startedAt }: ProcessRef): string {
  return `${pid} ${startedAt}`
}

function below(rows: readonly Row[], roots: readonly Row[]): Row[] {
  const children = new Map<number, Row[]>()
  for (const row of rows) {
    const siblings = children.get(row.parent)
    if (siblings) siblings.push(row)
    else children.set(row.parent, [row])
  }
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

function signal(pid: number, name: 'SIGSTOP' | 'SIGKILL'): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    // It is gone, or not ours to kill.
    return false
  }
}
