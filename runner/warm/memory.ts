/**
 * What a process and all below it hold in memory: their resident bytes, as /proc has them.
 *
 * Pages that several of them share, such as those of the CLI's program, count for each: 195 MiB where the machine loses
 * 118. So what is kept by it is less than it may be, never more; the exact sum (PSS) walks all pages, and the kernel
 * does not show it of a process in another user namespace.
 */
import { readdir, readFile } from 'node:fs/promises'

const RESIDENT = /^VmRSS:\s+(\d+) kB$/m

/** Bytes; 0 where there is no /proc, or no such process. */
export async function memoryOf(pid: number): Promise<number> {
  const [own, children] = await Promise.all([residentBytes(pid), childrenOf(pid)])
  const below = await Promise.all(children.map((child) => memoryOf(child)))
  return below.reduce((sum, bytes) => sum + bytes, own)
}

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1').catch(() => '')
  return Number(RESIDENT.exec(status)?.[1] ?? 0) * 1024
}

/** Each of its threads has those that it started. */
async function childrenOf(pid: number): Promise<number[]> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  const lists = await Promise.all(threads.map((id) => readFile(`/proc/${pid}/task/${id}/children`, 'latin1').catch(() => '')))
  return lists.join(' ').split(' ').filter((child) => child !== '').map(Number)
}
