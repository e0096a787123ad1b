/** Files that belong to the pages of the router, beside its code: scripts/postbuild.mjs puts them there. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Of this file when it was built, and of its source. */
const FOLDERS = ['../../assets', '../../dist/assets'].map((path) => join(import.meta.dirname, path))

/** Read once. Undefined: there is no such file. `name` is one of those that the router knows, never a caller's. */
export function assetsOf(folders: readonly string[] = FOLDERS): (name: string) => Promise<Uint8Array<ArrayBuffer> | undefined> {
  const known = new Map<string, Uint8Array<ArrayBuffer>>()
  return async (name) => {
    const kept = known.get(name)
    if (kept) return kept
    for (const folder of folders) {
      const read = await readFile(join(folder, name)).catch(missing)
      if (!read) continue
      const content = new Uint8Array(read)
      known.set(name, content)
      return content
    }
    return undefined
  }
}

function missing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
}
