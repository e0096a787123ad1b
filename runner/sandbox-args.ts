/**
 * The command lines that put a CLI into its sandbox. Pure: which tool works on this machine, and what is on its disk, is
 * found out by the caller.
 *
 * Both tools give the CLI a PID namespace, which dies as a whole: with its first process, with the wrapper, and, because
 * the wrapper asks for a signal at its parent's death, with the runner.
 */

/** One run as the sandbox sees it. Paths are absolute. */
export type Job = {
  readonly cwd: string
  /** What the run may change besides its own folders: the workspace, or its session's folder of it. A real path. */
  readonly workspace: string
  /** Further folders that it may change. Real paths. */
  readonly dirs: readonly string[]
  readonly configDir: string
  readonly privateDir: string
  readonly home: string
  /** What the CLI reads besides, where it exists: the certificates of its environment, programs of MCP servers. */
  readonly reads: readonly string[]
  /** Further files that it writes, where they exist: the machine's login, when that is used. */
  readonly writes: readonly string[]
}

/** What of this machine every sandboxed CLI gets to see. */
export type View = {
  /** The folders of the CLI's program, and of its interpreter. Real paths. */
  readonly programs: readonly string[]
  /** Folders of the runner and the router that no workspace may open, even one that holds them. Real paths. */
  readonly hidden: readonly string[]
}

/** `user`: in a user namespace of its own, which is what lets others than root make the rest. */
export function unshareArgs(tools: { setpriv: string; unshare: string }, user: boolean): string[] {
  const namespaces = [...(user ? ['--user', '--map-current-user'] : []), '--pid', '--fork', '--kill-child', '--mount-proc']
  // `unshare --kill-child` ties the namespace to unshare; setpriv, which becomes unshare, ties that to the runner.
  return [tools.setpriv, '--pdeathsig', 'KILL', tools.unshare, ...namespaces, '--']
}

/** Programs, libraries and what they are set up by. `/etc` by name: the rest of it is passwords and keys of services. */
const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32', '/opt', '/nix/store', '/run/systemd/resolve']
const SETUP = [
  'alternatives',
  'ca-certificates',
  'ca-certificates.conf',
  'crypto-policies',
  'fonts',
  'gai.conf',
  'gitconfig',
  'group',
  'host.conf',
  'hostname',
  'hosts',
  'inputrc',
  'ld.so.cache',
  'ld.so.conf',
  'ld.so.conf.d',
  'localtime',
  'magic',
  'mime.types',
  'nsswitch.conf',
  'os-release',
  'passwd',
  'pki',
  'profile',
  'protocols',
  'resolv.conf',
  'services',
  'ssl',
  'terminfo',
  'timezone',
].map((name) => `/etc/${name}`)

type Mount = { readonly at: string; readonly args: readonly string[] }

/**
 * Nothing is there but what is named here. The network is the machine's: the provider's gateway is on its loopback, and
 * tools that fetch are what many runs are about.
 */
export function bwrapArgs(bwrap: string, view: View, job: Job): string[] {
  const readOnly = (path: string): Mount => ({ at: path, args: ['--ro-bind-try', path, path] })
  const writable = (path: string): Mount => ({ at: path, args: ['--bind', path, path] })
  const empty = (path: string): Mount => ({ at: path, args: ['--tmpfs', path] })
  const mounts: Mount[] = [
    ...[...SYSTEM, ...SETUP].map(readOnly),
    { at: '/proc', args: ['--proc', '/proc'] },
    { at: '/dev', args: ['--dev', '/dev'] },
    empty('/tmp'),
    ...(job.home === '/' ? [] : [empty(job.home)]),
    ...[...view.programs, ...job.reads].map(readOnly),
    ...job.dirs.map(writable),
    writable(job.workspace),
    ...view.hidden.map(empty),
    writable(job.configDir),
    // Its entries are named by pids, which are the same in every PID namespace.
    empty(`${job.configDir}/sessions`),
    writable(job.privateDir),
    ...job.writes.map((path) => ({ at: path, args: ['--bind-try', path, path] })),
  ]
  return [
    bwrap,
    '--die-with-parent',
    '--unshare-pid',
    '--unshare-ipc',
    '--unshare-uts',
    '--cap-drop',
    'ALL',
    // It names a folder out here.
    '--unsetenv',
    'TMPDIR',
    ...inOrder(mounts).flatMap(({ args }) => args),
    '--chdir',
    job.cwd,
    '--',
  ]
}

/** Outer folders first: a mount covers whatever was mounted below it before. Where two have one place, the later one is on top. */
function inOrder(mounts: readonly Mount[]): Mount[] {
  const depth = ({ at }: Mount): number => at.split('/').filter((part) => part !== '').length
  return mounts.toSorted((a, b) => depth(a) - depth(b))
}
