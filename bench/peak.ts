/** The most memory that a process had, since it was asked to forget what it had before. From Linux's /proc. */
import { readFile, writeFile } from 'node:fs/promises'

/** 5 sets the high-water mark of resident memory to what there is now (proc_pid_clear_refs(5)). */
export async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5')
}

export async function peakBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1')
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1_024
}
