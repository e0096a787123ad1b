/** What a process has used, from Linux's /proc. */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'

export interface Used {
  /** User and system, of all its threads, without its children. */
  readonly cpuS: number
  readonly rssBytes: number
}

/** USER_HZ: what /proc counts in is 1/100 s on every Linux. */
const TICKS_PER_S = 100

/** What a runner forks to start its CLIs. That is the runner's work, wherever it is done. */
const SPAWNER = 'spawner-process.mjs'

/** Of a runner: it and its spawner. */
export async function usedByRunner(pid: number): Promise<Used> {
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1')).split(' ').filter((id) => id !== '')
  const all = [await used(pid)]
  for (const child of children.map(Number)) if (await isSpawner(child)) all.push(await used(child))
  return { cpuS: all.reduce((sum, { cpuS }) => sum + cpuS, 0), rssBytes: all.reduce((sum, { rssBytes }) => sum + rssBytes, 0) }
}

/** One that has just ended is none. */
async function isSpawner(pid: number): Promise<boolean> {
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')
  return commandLine.includes(SPAWNER)
}

export async function used(pid: number): Promise<Used> {
  const [stat, status] = await Promise.all([readFile(`/proc/${pid}/stat`, 'latin1'), readFile(`/proc/${pid}/status`, 'latin1')])
  // After the name, which may hold anything: state is field 3, utime 14, stime 15 (proc_pid_stat(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const cpuS = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S
  return { cpuS, rssBytes: Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024 }
}

export interface MachineTime {
  readonly all: number
  /** What the machine would have given and the one below it gave to others (proc_stat(5), steal). */
  readonly stolen: number
}

/** Of all processors since the start, in the same unit. */
export function machineTime(stat = readFileSync('/proc/stat', 'latin1')): MachineTime {
  const [cpu = ''] = stat.split('\n')
  // user, nice, system, idle, iowait, irq, softirq, steal; what guests had is in the first two.
  const times = cpu.trim().split(/\s+/).slice(1, 9).map(Number)
  return { all: times.reduce((sum, time) => sum + time, 0), stolen: times[7] ?? 0 }
}

/** The share of the time since `before` that others had. */
export function stolenSince(before: MachineTime, now = machineTime()): number {
  return now.all === before.all ? 0 : (now.stolen - before.stolen) / (now.all - before.all)
}
