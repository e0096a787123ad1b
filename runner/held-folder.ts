/**
 * Folders that are held open while something in them is looked at or removed, so that a program which puts a link in a
 * folder's place meanwhile leads nobody out of it. Node has no `openat`; on Linux `/proc/self/fd/<n>/<name>` is one. Where
 * there is no /proc the path is used as it is: no sandbox of ours works there, so who could do this has our rights anyway.
 */
import { randomUUID } from 'node:crypto'
import { chmodSync, closeSync, constants, existsSync, fchmodSync, fstatSync, open, openSync, readdirSync } from 'node:fs'
import { readdir, rename, rmdir, unlink } from 'node:fs/promises'
import { promisify } from 'node:util'

const BY_HANDLE = existsSync('/proc/self/fd')
/** Holds what a tool has made unreadable, too, so that it can be unlocked. Linux has it, and Node no name for it. */
const O_PATH = BY_HANDLE ? 0o10000000 : 0
const FOLDER = O_PATH | constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
const MODE = 0o700
const openLater = promisify(open)
/** A deeper folder is moved up to the top first: each level holds a file descriptor. */
const MAX_DEPTH = 32

/** Names on disk are bytes, and need not be UTF-8. */
export type Path = string | Buffer

export class HeldFolder {
  readonly #fd: number
  readonly #path: Buffer

  private constructor(fd: number, path: Path) {
    this.#fd = fd
    this.#path = Buffer.from(BY_HANDLE ? `/proc/self/fd/${fd}` : path)
  }

  /** Undefined: it is not there, or is no folder; a link to one is none. */
  static async open(path: Path): Promise<HeldFolder | undefined> {
    try {
      return new HeldFolder(await openLater(path, FOLDER), path)
    } catch (error) {
      return noFolder(error)
    }
  }

  /** The same without the thread pool, for a folder that is looked at often. */
  static openSync(path: Path): HeldFolder | undefined {
    try {
      return new HeldFolder(openSync(path, FOLDER), path)
    } catch (error) {
      return noFolder(error)
    }
  }

  /** The path of something in it, good while it is held. */
  at(name: Path): Buffer {
    return Buffer.concat([this.#path, Buffer.from('/'), Buffer.from(name)])
  }

  names(): Promise<Buffer[]> {
    return readdir(this.#path, { encoding: 'buffer' })
  }

  namesSync(): Buffer[] {
    return readdirSync(this.#path, { encoding: 'buffer' })
  }

  /** Lets its owner, whom a tool may have locked out, change what is in it, and nobody else. */
  unlock(): void {
    if ((fstatSync(this.#fd).mode & 0o777) === MODE) return
    // What is held by O_PATH is changed by its path alone.
    if (BY_HANDLE) chmodSync(this.#path, MODE)
    else fchmodSync(this.#fd, MODE)
  }

  close(): void {
    closeSync(this.#fd)
  }
}

function noFolder(error: unknown): undefined {
  if (!hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error
}

/** Holds a folder for as long as `work` takes; undefined when there is none. */
export async function within<T>(path: Path, work: (folder: HeldFolder) => Promise<T>): Promise<T | undefined> {
  const folder = await HeldFolder.open(path)
  if (!folder) return undefined
  try {
    return await work(folder)
  } finally {
    folder.close()
  }
}

/**
 * Removes what is at `path`, and what is in it. Links go, never what they lead to. What is not there is well. Fails where
 * somebody puts more into it meanwhile.
 */
export async function removeTree(path: Path): Promise<void> {
  if (await unlinked(path)) return
  await within(path, async (top) => {
    top.unlock()
    const names: Path[] = await top.names()
    const raise = async (deep: Path): Promise<void> => {
      const name = randomUUID()
      await rename(deep, top.at(name))
      names.push(name)
    }
    // It grows by what is raised.
    for (const name of names) await remove(top.at(name), raise, 1)
  })
  await removeFolder(path)
}

async function remove(path: Path, raise: (deep: Path) => Promise<void>, depth: number): Promise<void> {
  if (await unlinked(path)) return
  if (depth > MAX_DEPTH) return raise(path)
  await within(path, async (folder) => {
    folder.unlock()
    for (const name of await folder.names()) await remove(folder.at(name), raise, depth + 1)
  })
  await removeFolder(path)
}

async function removeFolder(path: Path): Promise<void> {
  await rmdir(path).catch((error: unknown) => {
    if (!hasCode(error, 'ENOENT')) throw error
  })
}

/** False: it is a folder. */
async function unlinked(path: Path): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return true
    // Linux says EISDIR, POSIX and others EPERM.
    if (hasCode(error, 'EISDIR', 'EPERM')) return false
    throw error
  }
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
