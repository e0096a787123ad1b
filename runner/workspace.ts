/**
 * Where a run may work: a folder whose real path is inside one of the owner's workspace roots, or a fresh one for its session.
 *
 * What was checked is a moment: another run in the same workspace may put a symlink in a folder's place afterwards. Only a
 * sandbox that mounts nothing else closes that gap; this keeps callers in, not programs.
 */
import { constants } from 'node:fs'
import { access, mkdir, realpath, rmdir, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { Fault } from '../shared/faults.ts'
import { SessionId } from '../shared/ids.ts'

export type Workspace = {
  /** A real path: no symlink, no dots. */
  cwd: string
  /** True when this call made the folder. */
  created: boolean
}

/** PATH_MAX of Linux; a name inside a path has its own limit, which the file system tells. */
const MAX_PATH_BYTES = 4096
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/
/** What a path can be answered with when it is the path that is wrong. Anything else is the machine's trouble. */
const NO_SUCH_FOLDER = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM', 'ENAMETOOLONG', 'EINVAL'])

/**
 * The folder a run works in. `roots` are absolute; a relative `cwd` starts at the first one. Without `cwd` the folder
 * `<first root>/<sessionId>` is used, and made (0700) when it is not there.
 *
 * Throws `Fault('cwd')`. It has one message for what is missing, no folder, outside, or not accessible, so that a caller
 * cannot ask which paths exist outside the workspace.
 */
export async function resolveCwd(options: {
  roots: readonly string[]
  cwd?: string | undefined
  sessionId: string
}): Promise<Workspace> {
  const { cwd, sessionId } = options
  const roots = await realRoots(options.roots)
  const first = roots[0]
  if (first === undefined) throw new Fault('cwd', 'the runner has no workspace folder')
  if (cwd !== undefined) return { cwd: await folderInside(roots, first, cwd), created: false }

  const name = SessionId.parse(sessionId)
  const created = await makeFolder(join(first, name))
  // An older folder of that name may have become a symlink since.
  return { cwd: await folderInside(roots, first, name), created }
}

/** Takes a fresh folder away again when nothing was put into it. */
export async function discard(workspace: Workspace): Promise<void> {
  if (!workspace.created) return
  try {
    await rmdir(workspace.cwd)
  } catch (error) {
    if (!hasCode(error, new Set(['ENOTEMPTY', 'EEXIST', 'ENOENT', 'ENOTDIR']))) throw error
  }
}

/** True when `path` is `folder` or below it. Both are real paths; `/root-evil` is not inside `/root`. */
export function isInside(folder: string, path: string): boolean {
  return path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`)
}

/** The roots that exist, by their real paths. */
export async function realRoots(roots: readonly string[]): Promise<string[]> {
  const real = await Promise.all(roots.map((root) => realFolder(root)))
  return real.filter((root) => root !== undefined)
}

async function folderInside(roots: readonly string[], first: string, cwd: string): Promise<string> {
  if (cwd !== '' && !CONTROL.test(cwd) && Buffer.byteLength(cwd) <= MAX_PATH_BYTES) {
    // Joined as it is: the kernel takes `link/..` for the parent of the link's target, path.resolve does not.
    const folder = await realFolder(isAbsolute(cwd) ? cwd : `${first}/${cwd}`)
    if (folder !== undefined && roots.some((root) => isInside(root, folder))) return folder
  }
  throw new Fault('cwd', `${quote(cwd)} is not a folder inside the workspace`)
}

async function realFolder(path: string): Promise<string | undefined> {
  if (!isAbsolute(path)) throw new TypeError(`not an absolute path: ${path}`)
  try {
    const real = await realpath(path)
    if (!(await stat(real)).isDirectory()) return undefined
    await access(real, constants.R_OK | constants.X_OK)
    return real
  } catch (error) {
    if (hasCode(error, NO_SUCH_FOLDER)) return undefined
    throw error
  }
}

async function makeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path, { mode: 0o700 })
    return true
  } catch (error) {
    if (hasCode(error, new Set(['EEXIST']))) return false
    throw error
  }
}

function hasCode(error: unknown, codes: ReadonlySet<string>): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.has(error.code)
}

function quote(path: string): string {
  return JSON.stringify(path.length > 200 ? `${path.slice(0, 200)}…` : path)
}
