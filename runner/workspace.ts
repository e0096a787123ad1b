/**
 * Where a run may work: a folder whose real path is inside one of the owner's workspace roots, a fresh one for its session,
 * or one that its caller has given a name. And which further folders it may work in.
 *
 * What was checked is a moment: another run in the same workspace may put a symlink in a folder's place afterwards. Only a
 * sandbox that mounts nothing else closes that gap; this keeps callers in, not programs.
 */
import { constants } from 'node:fs'
import { access, mkdir, realpath, rmdir, stat } from 'node:fs/promises'
import { basename, isAbsolute, join } from 'node:path'
import { Fault } from '../shared/faults.ts'
import { Name, SessionId, TenantId } from '../shared/ids.ts'
import type { SessionUse } from '../shared/run-spec.ts'

export type Workspace = {
  /** A real path: no symlink, no dots. */
  cwd: string
  /** True when this call made the folder. */
  created: boolean
}

/** Below a root, beside the folders of sessions; in it a folder for each tenant with those that it has named. */
const NAMED = 'named'
/** PATH_MAX of Linux; a name inside a path has its own limit, which the file system tells. */
const MAX_PATH_BYTES = 4096
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u001f\u007f]/
/** What a path can be answered with when it is the path that is wrong. Anything else is the machine's trouble. */
const NO_SUCH_FOLDER = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM', 'ENAMETOOLONG', 'EINVAL'])

/**
 * The folder a run works in. `roots` are absolute; a relative `cwd` starts at the first one. A `workspace` is
 * `<first root>/named/<tenant>/<workspace>`; without either the folder `<first root>/<sessionId>` is used. Both are made
 * (0700) where they are not there. None of them is in one of `closed`, the runner's own folders (real paths).
 *
 * Throws `Fault('cwd')`. It has one message for what is missing, no folder, outside, or not accessible, so that a caller
 * cannot ask which paths exist outside the workspace. A session that goes on in a folder made for a session, which is
 * gone, is `Fault('session_not_found')`.
 */
export async function resolveCwd(options: {
  roots: readonly string[]
  tenant: string
  session: SessionUse
  cwd?: string | undefined
  workspace?: string | undefined
  closed?: readonly string[]
}): Promise<Workspace> {
  const { cwd, session, workspace, closed = [] } = options
  const roots = await realRoots(options.roots)
  const first = roots[0]
  if (first === undefined) throw new Fault('cwd', 'the runner has no workspace folder')
  if (cwd !== undefined && workspace !== undefined) throw new Fault('invalid_request', 'workspace: is in place of cwd, not beside it')
  if (cwd !== undefined) {
    const found = await folderInside(roots, first, cwd)
    if (found !== undefined && !isClosed(roots, closed, found)) return { cwd: found, created: false }
    if (found === undefined && session.mode !== 'new' && SessionId.safeParse(basename(cwd)).success) throw goneSession(session)
    throw notInside(cwd)
  }
  if (workspace !== undefined) {
    if (isClosed(roots, closed, join(first, NAMED, options.tenant, workspace))) throw notInside(workspace, 'workspace: ')
    return { cwd: await namedFolder(first, options.tenant, workspace), created: false }
  }

  const name = SessionId.parse(session.id)
  if (isClosed(roots, closed, join(first, name))) throw notInside(name)
  // What is to be continued was never in a folder that is only now made.
  const created = session.mode !== 'resume' && (await makeFolder(join(first, name)))
  // An older folder of that name may have become a symlink since.
  const found = await folderInside(roots, first, name)
  if (found === undefined) throw session.mode === 'resume' ? goneSession(session) : notInside(name)
  if (isClosed(roots, closed, found)) throw notInside(name)
  return { cwd: found, created }
}

/**
 * Further folders of a run, by their real paths and each once: as `cwd`, inside one of the roots and in none of `closed`.
 * Throws `Fault('cwd')` that names the one that is not.
 */
export async function resolveDirs(options: {
  roots: readonly string[]
  dirs: readonly string[]
  closed?: readonly string[]
}): Promise<string[]> {
  const { dirs, closed = [] } = options
  if (dirs.length === 0) return []
  const roots = await realRoots(options.roots)
  const found = await Promise.all(
    dirs.map(async (dir) => {
      const folder = roots[0] === undefined ? undefined : await folderInside(roots, roots[0], dir)
      if (folder === undefined || isClosed(roots, closed, folder)) throw notInside(dir, 'add_dirs: ')
      return folder
    }),
  )
  return [...new Set(found)]
}

/** In one of `closed`, unless a root that lies in there opens it again. All are real paths. */
export function isClosed(roots: readonly string[], closed: readonly string[], folder: string): boolean {
  const root = innermost(roots, folder)
  return closed.some((path) => isInside(path, folder) && (root === undefined || isInside(root, path)))
}

/** The root that is nearest to a folder inside it. All are real paths. */
export function innermost(roots: readonly string[], folder: string): string | undefined {
  return roots.filter((root) => isInside(root, folder)).toSorted((a, b) => b.length - a.length)[0]
}

/** Made for one session, or under a name: the rest of the root is not its business. `below` is a path inside a root. */
export function isOwnFolder(below: string): boolean {
  const [first = '', tenant = '', name = '', ...rest] = below.split('/')
  if (SessionId.safeParse(below).success) return true
  return first === NAMED && rest.length === 0 && TenantId.safeParse(tenant).success && Name.safeParse(name).success
}

/** Every step of the way is a folder of its own: through a link, two names or two tenants could be one. */
async function namedFolder(root: string, tenant: string, name: string): Promise<string> {
  let folder = root
  for (const part of [NAMED, TenantId.parse(tenant), Name.parse(name)]) {
    folder = join(folder, part)
    await makeFolder(folder)
  }
  if ((await realFolder(folder)) !== folder) throw new Fault('cwd', `workspace: ${quote(name)} is not a folder of its own`)
  return folder
}

function goneSession(session: SessionUse): Fault {
  const id = session.mode === 'fork' ? session.from : session.id
  return new Fault('session_not_found', `session ${id} is no longer on this runner: its folder is gone`)
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

async function folderInside(roots: readonly string[], first: string, cwd: string): Promise<string | undefined> {
  if (cwd !== '' && !CONTROL.test(cwd) && Buffer.byteLength(cwd) <= MAX_PATH_BYTES) {
    // Joined as it is: the kernel takes `link/..` for the parent of the link's target, path.resolve does not.
    const folder = await realFolder(isAbsolute(cwd) ? cwd : `${first}/${cwd}`)
    if (folder !== undefined && roots.some((root) => isInside(root, folder))) return folder
  }
  return undefined
}

function notInside(path: string, field = ''): Fault {
  return new Fault('cwd', `${field}${quote(path)} is not a folder inside the workspace`)
}

async function realFolder(path: string): Promise<string | undefined> {
  if (!isAbsolute(path)) throw new TypeError(`not an absolute path: ${path}`)
  try {
    const real = await realpath(path)
    const [found] = await Promise.all([stat(real), access(real, constants.R_OK | constants.X_OK)])
    return found.isDirectory() ? real : undefined
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
