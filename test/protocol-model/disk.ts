/**
 * The disk under the spools: real files, and a sync that a schedule can hold back. It knows what was synced of each, so
 * that a power cut can take the rest, and closes what a killed process left open.
 */
import type * as NodeFs from 'node:fs'

type Fs = typeof NodeFs
type Waiting = { fd: number; size: number; done: (error: Error | null) => void }

let fs: Fs
const paths = new Map<number, string>()
const synced = new Map<string, number>()
let waiting: Waiting[] = []
const folders: ((error: null) => void)[] = []
/** Of processes that are gone. What still runs of one here must not get at the files of its successor by their numbers. */
const dead = new Set<number>()

export const disk = {
  held: false,
  /** Syncs of folders wait too, for `releaseFolders`; else a folder has every name at once. */
  foldersHeld: false,
  /** Writes to spools in these folders fail. */
  full: new Set<string>(),
  /** Ends the syncs that wait, with an error if there is one; true if there were any. */
  release(error: Error | null = null): boolean {
    if (disk.held || waiting.length === 0) return false
    const all = waiting
    waiting = []
    for (const { fd, size, done } of all) {
      const path = paths.get(fd)
      if (path !== undefined && !error) synced.set(path, Math.max(size, synced.get(path) ?? 0))
      done(error)
    }
    return true
  },
  releaseFolders(): void {
    for (const done of folders.splice(0)) done(null)
  },
  /** Of a spool, by its path. */
  syncedBytes: (path: string): number => synced.get(path) ?? 0,
  /** The process that had `dir` is gone. With `kept`, the machine lost power: of what was not synced, that share stays. */
  crash(dir: string, kept: number | undefined): void {
    for (const [fd, path] of paths) {
      if (!path.startsWith(dir)) continue
      waiting = waiting.filter((w) => w.fd !== fd)
      if (kept !== undefined && fs.existsSync(path)) {
        const { size } = fs.fstatSync(fd)
        const safe = synced.get(path) ?? 0
        if (size > safe) fs.truncateSync(path, safe + Math.floor((size - safe) * kept))
      }
      dead.add(fd)
      paths.delete(fd)
    }
  },
  reset(): void {
    disk.held = false
    disk.foldersHeld = false
    disk.full.clear()
    waiting = []
    disk.releaseFolders()
    for (const fd of [...paths.keys(), ...dead]) fs.closeSync(fd)
    paths.clear()
    dead.clear()
    synced.clear()
  },
}

/** node:fs with these few functions in place of its own. A sync to a temporary file system is nothing, so none is made. */
export function overlay(real: Fs): Fs {
  fs = real
  const over = {
    ...real,
    openSync(path: string, flags: string, mode?: number) {
      const fd = real.openSync(path, flags, mode)
      if (path.endsWith('.spool')) paths.set(fd, path)
      // A new file, that nothing of an earlier one of its name is in.
      if (flags.includes('x')) synced.delete(path)
      return fd
    },
    closeSync(fd: number) {
      if (dead.has(fd)) return
      paths.delete(fd)
      real.closeSync(fd)
    },
    readSync: (fd: number, ...rest: unknown[]) => (real.readSync as (...all: unknown[]) => number)(alive(fd), ...rest),
    ftruncateSync: (fd: number, size?: number) => real.ftruncateSync(alive(fd), size),
    fsync(_fd: number, done: (error: null) => void) {
      if (disk.foldersHeld) folders.push(done)
      else queueMicrotask(() => done(null))
    },
    fdatasync(fd: number, done: Waiting['done']) {
      waiting.push({ fd, size: real.fstatSync(alive(fd)).size, done })
    },
    writevSync(fd: number, buffers: NodeJS.ArrayBufferView[]) {
      const path = paths.get(fd) ?? ''
      for (const dir of disk.full) {
        if (path.startsWith(dir)) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
      }
      return real.writevSync(alive(fd), buffers)
    },
  }
  return { ...over, default: over } as unknown as Fs
}

function alive(fd: number): number {
  if (dead.has(fd)) throw Object.assign(new Error('bad file descriptor'), { code: 'EBADF' })
  return fd
}
