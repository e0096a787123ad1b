/** What a process has used, from Linux's /proc. */
import { readFile } from 'node:fs/promises'

export interface Used {
  /** User and system, of all its threads, without its children. */
  readonly cpuS: number
  readonly rssBytes: number
}

/** USER_HZ: what /proc counts in is 1/100 s on every Linux. */
const TICKS_PER_S = 100

export async function used(pid: number): Promise<Used> {
  const [stat, status] = await Promise.all([readFile(`/proc/${pid}/stat`, 'latin1'), readFile(`/proc/${pid}/status`, 'latin1')])
  // After the name, which may hold anything: state is field 3, utime 14, stime 15 (proc_pid_stat(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const cpuS = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S
  return { cpuS, rssBytes: Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024 }
}
