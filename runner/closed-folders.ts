/**
 * The folders of the runner and the router on a machine whose owner has opened a workspace around them. That no run works in
 * them is workspace.ts' business, and that none sees them bwrap's; this is about the tools of a run that has the rights
 * of the user.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isInside } from './workspace.ts'

/** The roots that have one of `closed` inside, or are it. All are real paths. */
export function rootsAround(roots: readonly string[], closed: readonly string[]): string[] {
  return roots.filter((root) => closed.some((path) => isInside(root, path)))
}

/**
 * What tools are to be kept out of, where a root is around it: files and folders, by their real paths. A root that lies in
 * one of `closed` stays open.
 *
 * Where the run's own `folders` are around it too, that is all of it. Others keep `needed`, in which the CLI looks up what
 * its tools printed: it is not in their working directory, so that to read there is not allowed by that alone.
 */
export async function closedPaths(options: {
  roots: readonly string[]
  closed: readonly string[]
  folders: readonly string[]
  needed: readonly string[]
}): Promise<string[]> {
  const { roots, closed, folders, needed } = options
  if (rootsAround(roots, closed).length === 0) return []
  const found = await Promise.all(
    closed.map((path) => {
      const inside = roots.filter((root) => root !== path && isInside(path, root))
      const isAround = folders.some((folder) => isInside(folder, path))
      return pathsAround(path, isAround ? inside : [...inside, ...needed])
    }),
  )
  return [...new Set(found.flat())]
}

/** All of `path` but what is `open`, in as few paths as can be. */
async function pathsAround(path: string, open: readonly string[]): Promise<string[]> {
  if (open.includes(path)) return []
  if (!open.some((one) => isInside(path, one))) return [path]
  const names = await readdir(path)
  return (await Promise.all(names.map((name) => pathsAround(join(path, name), open)))).flat()
}
