/**
 * Folders that are held open while something in them is looked at or removed, so that a program which puts a link in a
 * folder's place meanwhile leads nobody out of it. Node has no `openat`; on Linux `/proc/self/fd/<n>/<name>` is one. Where
 * there is no /proc the path is used as it is: no sandbox of ours works there, so who could do this has our rights anyway.
 */
import { randomUUID } from 'node:crypto'
import { constants, existsSync } from 'node:fs'
import { open, readdir, rename, rmdir, unlink, type FileHandle } from 'node:fs/promises'

const BY_HANDLE = existsSync('/proc/self/fd')
const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
/** A deeper folder is moved up to the top first: each level holds a file descriptor. */
const MAX_DEPTH = 32

/** Names on disk are bytes, and need not be UTF-8. */
export type Path = string | Buffer

export class HeldFolder {
  readonly #handle: FileHandle
  readonly #path: Buffer

  private constructor(handle: FileHandle, path: Path) {
    this.#handle = handle
    this.#path = Buffer.from(BY_HANDLE ? `/proc/self/fd/${handle.fd}` : path)
  }

  /** Undefined: it is not there, or is no folder; a link to one is none. */
  static async open(path: Path): Promise<HeldFolder | undefined> {
    try {
      return new HeldFolder(await open(path, FOLDER), path)
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
      throw error
    }
  }

  /** The path of something in it, good while it is held. */
  at(name: Path): Buffer {
    return Buffer.concat([this.#path, Buffer.from('/'), Buffer.from(name)])
  }

  names(): Promise<Buffer[]> {
    return readdir(this.#path, { encoding: 'buffer' })
  }

  /** Lets its owner, whom a tool may have locked out, change what is in it. */
  async unlock(): Promise<void> {
    await this.#handle.chmod(0o700)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

/** Holds a folder for as long as `work` takes; undefined when there is none. */
export async function within<T>(path: Path, work: (folder: HeldFolder) => Promise<T>): Promise<T | undefined> {
  const folder = await HeldFolder.open(path)
  if (!folder) return undefined
  try {
    return await work(folder)
  } finally {
    await folder.close()
  }
}

/** Removes what is at `path`, and what is in it. Links go, never what they lead to. What is not there is well. */
export async function removeTree(path: Path): Promise<void> {
  await remove(path, undefined, 0)
}

async function remove(path: Path, top: HeldFolder | undefined, depth: number): Promise<void> {
  if (await unlinked(path)) return
  if (top && depth > MAX_DEPTH) return rename(path, top.at(randomUUID()))
  await within(path, async (folder) => {
    await folder.unlock()
    for (;;) {
      const names = await folder.names()
      for (const name of names) await remove(folder.at(name), top ?? folder, depth + 1)
      // At the top again until nothing is left: what was moved up comes back there.
      if (top || names.length === 0) return
    }
  })
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
