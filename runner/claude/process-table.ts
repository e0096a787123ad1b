/**
 * Who is alive on this machine, and which marker each has in its environment, as `/proc` tells it. Without one (not Linux)
 * there is nobody.
 *
 * A table is put together from hundreds of files, and processes begin and end meanwhile. It is whole when everybody who was
 * listed was still there to be read: then a process that is not in it descends from one that is. One that was gone may have
 * started another behind the listing, so there is a further one. What could not be read is nobody's end: no table with such
 * a gap is whole.
 */
import { readFile as readFileByCallback } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import { MARKER_NAME } from './env.ts'

/** A pid alone may have been given to a stranger since; with the start time it names one process. */
export type ProcessRef = { pid: number; startedAt: string }

/** With its process group. */
export type Relative = ProcessRef & { group: number }

type Stat = Relative & { parent: number; isKernel: boolean; hasEnvironment: boolean }
/** `isClear`: its environment was there to be read. In an execve the old one is gone before the new one is there. */
export type Row = Stat & { marker: string | undefined; isClear: boolean }
export type Table = { readonly rows: readonly Row[]; readonly isWhole: boolean }

/** A table of all processes is hundreds of small files: with file handles it takes twice the CPU. */
const readFile = promisify(readFileByCallback)

/**
 * After the first only who is new is read, but where strangers come and go all the time there would be no end of it. Five
 * leave more than a quarter of the tables unsure where a process starts another and exits every millisecond or two.
 */
const LOOKS = 30
/** Read together: each takes a file descriptor, which the connections of the runner and its runs need too. */
const BATCH = 64

/** PF_KTHREAD of its flags (include/linux/sched.h). */
const KERNEL_THREAD = 0x0020_0000

/** Told of each as it is read. With a table at its end, who is quick has been somebody else for long. */
export type Meet = (row: Row) => void

let next: { readonly table: Promise<Table>; readonly meets: Meet[] } | undefined

/** Begun after the call. Calls that come together share one reading: a runner that was killed sweeps for all its runs at once. */
export function processTable(meet?: Meet): Promise<Table> {
  next ??= begun([])
  if (meet) next.meets.push(meet)
  return next.table
}

function begun(meets: Meet[]): NonNullable<typeof next> {
  const table = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    next = undefined
    return readTable((row) => meets.forEach((meet) => meet(row)))
  })
  return { table, meets }
}

/** Undefined where there is no such process, or only what is left of a dead one. Throws where that cannot be known. */
export async function readStat(name: string): Promise<Stat | undefined> {
  try {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8')
    // The second field is the command in brackets and may hold blanks and brackets itself (proc_pid_stat(5)).
    const [state, parent, group, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A zombie is dead, and only its parent can take it away, unless it has other threads: then its first one alone has ended.
    const threads = Number(rest[14])
    if (state === 'X' || (state === 'Z' && threads <= 1)) return undefined
    const [environmentFrom, environmentTo] = [rest[44], rest[45]]
    return {
      pid: Number(name),
      parent: Number(parent),
      group: Number(group),
      startedAt: rest[16] ?? '',
      // No memory would not tell: who is just ending has none either, and may have started another.
      isKernel: (Number(rest[3]) & KERNEL_THREAD) !== 0,
      // One without an end is still to come.
      hasEnvironment: environmentFrom !== environmentTo || environmentTo === '0',
    }
  } catch (error) {
    if (isGone(error) || isForeign(error)) return undefined
    throw error
  }
}

async function readTable(meet: Meet): Promise<Table> {
  const rows = new Map<string, Row | undefined>()
  let isWhole = false
  for (let look = 0; look < LOOKS && !isWhole; look++) {
    const listed = await namesOfAll()
    const names = listed?.filter((name) => !rows.has(name) || rows.get(name)?.isClear === false) ?? []
    for (let from = 0; from < names.length; from += BATCH) {
      await Promise.all(names.slice(from, from + BATCH).map((name) => take(name, rows, meet)))
    }
    isWhole = listed !== undefined && names.every((name) => rows.get(name)?.isClear === true)
  }
  return { rows: [...rows.values()].filter((row) => row !== undefined), isWhole }
}

/** Undefined where that cannot be known. */
async function namesOfAll(): Promise<string[] | undefined> {
  try {
    return (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  } catch (error) {
    return isGone(error) ? [] : undefined
  }
}

/** One that could not be read stays one to be read. */
async function take(name: string, rows: Map<string, Row | undefined>, meet: Meet): Promise<void> {
  const row = await readRow(name).catch(() => 'unread' as const)
  if (row === 'unread') return
  rows.set(name, row)
  if (row) meet(row)
}

async function readRow(name: string): Promise<Row | undefined> {
  const row = await readStat(name)
  // Threads of the kernel have no environment: half of all, on a quiet machine.
  if (!row || row.isKernel) return row && { ...row, marker: undefined, isClear: true }
  const own = await environOf(name)
  const environ = own === '' && row.hasEnvironment ? await environOfThreads(name) : own
  return { ...row, marker: markerIn(environ ?? ''), isClear: environ !== '' || !row.hasEnvironment }
}

/** Of a process whose first thread has ended only the others show it. */
async function environOfThreads(name: string): Promise<string> {
  for (const thread of await readdir(`/proc/${name}/task`).catch(() => [])) {
    const environ = thread === name ? '' : await environOf(`${name}/task/${thread}`)
    if (environ) return environ
  }
  return ''
}

/**
 * Undefined where it may not be read: another user's process, or one that has made itself unreadable (prctl(2), PR_SET_DUMPABLE),
 * which only its descent gives away then. Empty where it is not there.
 */
async function environOf(name: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${name}/environ`, 'latin1')
  } catch (error) {
    if (isForeign(error)) return undefined
    if (isGone(error)) return ''
    throw error
  }
}

/** Not there any more when it was opened, or when it was read. */
function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ESRCH'
}

function isForeign(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'EACCES' || code === 'EPERM'
}

function markerIn(environ: string): string | undefined {
  const entry = `\0${environ}`.split(`\0${MARKER_NAME}=`)[1]
  return entry?.split('\0')[0]
}
