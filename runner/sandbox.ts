/**
 * What stands between a run and this machine: `bwrap` shows it nothing but its workspace, `unshare` only makes sure that
 * nothing of it survives, `none` leaves that to the sweep.
 *
 * Decides which of them works here, by trying it once, and what of the machine a run gets to see. The sweep by marker
 * follows every run in every mode.
 */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, open, realpath } from 'node:fs/promises'
import { delimiter, dirname, isAbsolute, join } from 'node:path'
import { bwrapArgs, unshareArgs, type Job, type View } from './sandbox-args.ts'
import { innermost, isOwnFolder } from './workspace.ts'

export const SANDBOXES = ['auto', 'bwrap', 'unshare', 'none'] as const
export type Wanted = (typeof SANDBOXES)[number]

export interface Sandbox {
  readonly mode: Exclude<Wanted, 'auto'>
  /** One sentence for the owner: what a run can touch. */
  readonly means: string
  /** The path of the CLI as it is inside. */
  readonly program: string
  /** What to put before the CLI and its arguments; empty without a sandbox. */
  prefix(job: Job): readonly string[]
}

/** The owner asked for a sandbox that does not work here. */
export class SandboxError extends Error {
  override readonly name = 'SandboxError'
  readonly hint: string

  constructor(message: string, hint: string) {
    super(message)
    this.hint = hint
  }
}

export type Surroundings = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The CLI. */
  readonly claude: string
  /** Folders that no run may open: see `View`. Those that do not exist are left out. */
  readonly hidden?: readonly string[]
}

const TRY_TIMEOUT_MS = 5_000
const NAMESPACES =
  'let this user make namespaces (kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a container: its seccomp profile), or set sandbox = "none"'

/** Throws a `SandboxError` when `wanted` is not `auto` and does not work. `auto` is `unshare` where that works. */
export async function detect(wanted: Wanted, around: Surroundings): Promise<Sandbox> {
  if (wanted === 'none') return without(around)
  if (wanted === 'bwrap') return bubblewrap(around)
  if (wanted === 'unshare') return namespaces(around)
  return namespaces(around).catch((error: unknown) => {
    if (error instanceof SandboxError) return without(around, error.message)
    throw error
  })
}

const SAME_RIGHTS = 'a run has the rights of this user'

/** `why` nothing better could be had, if something was tried. */
function without({ claude }: Surroundings, why?: string): Sandbox {
  const means = `${SAME_RIGHTS}, and what it leaves running is found by its marker${why === undefined ? '' : ` (${why})`}`
  return { mode: 'none', means, program: claude, prefix: () => [] }
}

async function namespaces({ env, claude }: Surroundings): Promise<Sandbox> {
  const [unshare, setpriv] = await Promise.all([tool('unshare', env), tool('setpriv', env)])
  if (unshare === undefined || setpriv === undefined) {
    const missing = [...(unshare ? [] : ['unshare']), ...(setpriv ? [] : ['setpriv'])].join(' and ')
    throw new SandboxError(`sandbox unshare: ${missing} cannot be found on this machine`, 'install util-linux (apt-get install util-linux)')
  }
  // Root in a container may be kept from the first one and allowed the second.
  const ways = process.getuid?.() === 0 ? [false, true] : [true]
  let why = ''
  for (const user of ways) {
    const prefix = unshareArgs({ unshare, setpriv }, user)
    why = await failure([...prefix, '/bin/true'])
    if (why !== '') continue
    return {
      mode: 'unshare',
      means: `${SAME_RIGHTS}; a PID namespace ends all of it with its CLI, and with the runner`,
      program: claude,
      prefix: () => prefix,
    }
  }
  throw new SandboxError(`sandbox unshare: it does not work here: ${why}`, NAMESPACES)
}

async function bubblewrap({ env, claude, hidden = [] }: Surroundings): Promise<Sandbox> {
  const bwrap = await tool('bwrap', env)
  if (bwrap === undefined) {
    throw new SandboxError('sandbox bwrap: bwrap cannot be found on this machine', 'install bubblewrap (apt-get install bubblewrap)')
  }
  const paths = await Promise.all(hidden.map((path) => realpath(path).catch(() => undefined)))
  const view: View = { programs: await programFolders(claude, env), hidden: paths.filter((path) => path !== undefined) }
  const probe = ['--die-with-parent', '--unshare-pid', '--unshare-ipc', '--unshare-uts', '--cap-drop', 'ALL']
  const why = await failure([bwrap, ...probe, '--ro-bind', '/', '/', '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp', '--', '/bin/true'])
  if (why !== '') throw new SandboxError(`sandbox bwrap: it does not work here: ${why}`, NAMESPACES)
  return {
    mode: 'bwrap',
    means: 'a run sees the system read-only, and of this user only its workspace and the config folder of its tenant; the network is shared',
    // No link leads there.
    program: await realpath(claude),
    prefix: (job) => bwrapArgs(bwrap, view, job),
  }
}

/**
 * What a run may see of the workspaces: the innermost root around its folder; only its own folder if that was made for its
 * session or under a name. Both are real paths.
 */
export function visibleWorkspace(roots: readonly string[], cwd: string): string {
  const root = innermost(roots, cwd)
  return root === undefined || isOwnFolder(cwd.slice(root.length + 1)) ? cwd : root
}

/** The CLI's own folder; and, when it is a script, that of what runs it. */
async function programFolders(claude: string, env: Surroundings['env']): Promise<string[]> {
  const program = await realpath(claude)
  const interpreter = await interpreterOf(program)
  // The script names `node`, which is looked for by PATH inside as well: a link to it has to be there with its target.
  const found = interpreter === undefined ? undefined : await tool(interpreter, env)
  const paths = [program, ...(found === undefined ? [] : [found, await realpath(found)])]
  return [...new Set(paths.map((path) => dirname(path)))]
}

/** The program of a `#!` line, without its folder; undefined for a binary. */
async function interpreterOf(program: string): Promise<string | undefined> {
  const file = await open(program)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(256), 0, 256, 0)
    const line = /^#!\s*(.*)/.exec(buffer.toString('latin1', 0, bytesRead))?.[1]
    const words = (line ?? '').trim().split(/\s+/).filter((word) => word !== '')
    // `#!/usr/bin/env [-S] node`
    const name = words[0]?.endsWith('/env') ? words.slice(1).find((word) => !word.startsWith('-')) : words[0]
    return name?.split('/').at(-1)
  } finally {
    await file.close()
  }
}

async function tool(name: string, env: Surroundings['env']): Promise<string | undefined> {
  const folders = [...(env['PATH'] ?? '').split(delimiter), '/usr/bin', '/bin', '/usr/sbin', '/sbin'].filter((path) => isAbsolute(path))
  for (const folder of folders) {
    const path = join(folder, name)
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return path
  }
  return undefined
}

/** Runs it; empty when it went well, else what it said. */
function failure([command = '', ...args]: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(command, args, { env: {}, timeout: TRY_TIMEOUT_MS, killSignal: 'SIGKILL' }, (error, _stdout, stderr) => {
      if (error === null) return resolve('')
      resolve(stderr.trim().split('\n')[0] || error.message)
    })
  })
}
