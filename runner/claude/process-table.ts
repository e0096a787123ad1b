/**
 * Who is alive on this machine, and which marker each has in its environment, as `/proc` tells it. Without one (not Linux)
 * there is nobody.
 *
 * A table is put together from hundreds of files, and processes begin and end meanwhile. It is whole when everybody who was
 * listed was still there to be read: then a process that is not in it descends from one that is. One that was gone may have
 * started another behind the listing, so there is a further one.
 */
import { readFile as readFileByCallback } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import { MARKER_NAME } from './env.ts'

/** A pid alone may have been given to a stranger since; with the start time it names one process. */
export type ProcessRef = { pid: number; startedAt: string }

/** With its process group. */
export type Relative = ProcessRef & { group: number }

type Stat = Relative & { parent: number; hasMemory: boolean; hasEnvironment: boolean }
/** `isClear`: its environment was there to be read. In an execve the old one is gone before the new one is there. */
export type Row = Stat & { marker: string | undefined; isClear: boolean }
export type Table = { readonly rows: readonly Row[]; readonly isWhole: boolean }

/** A table of all processes is hundreds of small files: with file handles it takes twice the CPU. */
const readFile = promisify(readFileByCallback)

/** After the first only who is new is read, but where strangers come and go all the time there would be no end of it. */
const LOOKS = 5

let nextTable: Promise<Table> | undefined

/** Begun after the call. Calls that come together share one reading: a runner that was killed sweeps for all its runs at once. */
export function processTable(): Promise<Table> {
  nextTable ??= new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
    nextTable = undefined
    return readTable()
  })
  return nextTable
}

/** Undefined where there is no such process, or only what is left of a dead one. */
export async function readStat(name: string): Promise<Stat | undefined> {
  try {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8')
    // The second field is the command in brackets and may hold blanks and brackets itself (proc_pid_stat(5)).
    const [state, parent, group, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A zombie is dead; only its parent can take it away.
    if (state === 'Z' || state === 'X') return undefined
    const [environmentFrom, environmentTo] = [rest[44], rest[45]]
    return {
      pid: Number(name),
      parent: Number(parent),
      group: Number(group),
      startedAt: rest[16] ?? '',
      hasMemory: rest[17] !== '0',
      // One without an end is still to come.
      hasEnvironment: environmentFrom !== environmentTo || environmentTo === '0',
    }
  } catch {
    // It ended while it was read.
    return undefined
  }
}

async function readTable(): Promise<Table> {
  const rows = new Map<string, Row | undefined>()
  let isWhole = false
  for (let look = 0; look < LOOKS && !isWhole; look++) {
    const listed = await readdir('/proc').catch(() => [])
    const names = listed.filter((name) => /^\d+$/.test(name) && (!rows.has(name) || rows.get(name)?.isClear === false))
    await Promise.all(names.map(async (name) => rows.set(name, await readRow(name))))
    isWhole = names.every((name) => rows.get(name)?.isClear === true)
  }
  return { rows: [...rows.values()].filter((row) => row !== undefined), isWhole }
}

async function readRow(name: string): Promise<Row | undefined> {
  const row = await readStat(name)
  // The environment is in its memory, which threads of the kernel have none of: half of all, on a quiet machine.
  if (!row?.hasMemory) return row && { ...row, marker: undefined, isClear: true }
  const environ = await environOf(name)
  return { ...row, marker: markerIn(environ ?? ''), isClear: environ !== '' || !row.hasEnvironment }
}

/** Undefined where it may not be read: another user's process, so none that was started here. Empty where it is not there. */
async function environOf(name: string): Promise<string | undefined> {
  try {
    return await readFile(`/proc/${name}/environ`, 'latin1')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EACCES' || code === 'EPERM' ? undefined : ''
  }
}

function markerIn(environ: string): string | undefined {
  const entry = `\0${environ}`.split(`\0${MARKER_NAME}=`)[1]
  return entry?.split('\0')[0]
}
