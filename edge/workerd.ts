/**
 * A bundled Worker in workerd, the runtime of Cloudflare Workers, as a process of ours: no wrangler, no account, its
 * objects and its D1 in a directory of this machine.
 *
 * What it is given is decided by wrangler.toml and `vars`; when it is ended, by the caller. It never outlives us.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, rename, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve as absolute } from 'node:path'
import { bracketed, localUrl } from './addresses.ts'
import { capnpConfig, CONTROL_FILE, D1_FILES, usesD1, WORKER_FILE } from './config.ts'
import { callControl, controlWorker, type Control } from './control.ts'
import { spawnGuarded, type Guarded } from './guarded.ts'
import { readWrangler, type Wrangler } from './wrangler.ts'

const require = createRequire(import.meta.url)
const START_MS = 30_000
const STOP_MS = 500
const KEPT_LINES = 200
/** A cron run may do much; it is not a test's question. */
const CRON_MS = 300_000

export interface WorkerdOptions {
  /** The bundle's file. */
  readonly bundle: string
  /** The wrangler.toml. */
  readonly wrangler: string
  /** Where its objects and D1 are kept; made 0700. One workerd at a time. */
  readonly dir: string
  /** Address to listen on; 127.0.0.1 unless told otherwise. */
  readonly host?: string
  /** 0, the default: any. */
  readonly port?: number
  /** Secrets, and vars to have instead of those in wrangler.toml. */
  readonly vars?: Readonly<Record<string, string>>
  /** Opens `evict` and `abort`, and this machine to what the Worker fetches, for tests. */
  readonly unsafe?: boolean
  /** Every line that workerd and the Worker print. */
  readonly onLine?: (line: string) => void
}

export interface RunningWorkerd {
  readonly url: string
  readonly port: number
  readonly pid: number
  /** The last lines that it printed. */
  readonly lines: readonly string[]
  /** 0 after an orderly end, 128 and the number of the signal after any other. */
  readonly exited: Promise<number>
  kill(): Promise<number>
  /** Asks it to end. It waits for open sockets and streams without limit, so after `graceMs` it is killed. */
  stop(graceMs?: number): Promise<number>
  /** The same storage, the same port. Kills it if it still runs. */
  restart(): Promise<RunningWorkerd>
  /** Runs the Worker's `scheduled` handler as this cron entry would, and waits for it. */
  cron(entry: string): Promise<void>
  /**
   * Throws the object `name` of a class out of memory: `hibernate` keeps its hibernatable sockets, `close` cuts them with
   * 1006, as a deployment does. Rejects after 5 s while a request, stream or timer of the object is open. Needs `unsafe`.
   */
  evict(className: string, name: string, sockets: 'hibernate' | 'close'): Promise<void>
  /** Breaks every object in the middle of what it does, with its sockets and streams. Needs `unsafe`. */
  abort(): Promise<void>
}

/** Resolves when it listens; rejects with what workerd printed when it does not come to that. */
export async function startWorkerd(options: WorkerdOptions): Promise<RunningWorkerd> {
  const { dir, host = '127.0.0.1', port = 0, unsafe = false } = options
  const secret = randomBytes(32).toString('base64url')
  const config = await prepare(options, `${bracketed(host)}:${port}`, { secret, unsafe })

  const lines: string[] = []
  const ports = new Map<string, number>()
  let listens: () => void
  const ready = new Promise<void>((resolve) => (listens = resolve))
  const binary = (require('workerd') as { default: string }).default
  const child = await spawnGuarded(binary, ['serve', '--experimental', '--verbose', '--control-fd=3', config], {
    cwd: dir,
    onLine(line) {
      lines.push(line)
      if (lines.length > KEPT_LINES) lines.shift()
      options.onLine?.(line)
    },
    onReport({ socket, port: bound }) {
      if (typeof socket !== 'string' || typeof bound !== 'number') return
      ports.set(socket, bound)
      if (ports.has('http') && ports.has('control')) listens()
    },
  })
  await untilReady(child, ready, lines)

  const bound = ports.get('http')!
  const control: Control = { url: `http://127.0.0.1:${ports.get('control')}`, secret }
  return {
    url: localUrl(host, bound),
    port: bound,
    pid: child.pid,
    lines,
    exited: child.exited,
    kill: () => child.end('SIGKILL'),
    async stop(graceMs = STOP_MS) {
      const timer = setTimeout(() => void child.end('SIGKILL'), graceMs)
      try {
        return await child.end('SIGTERM')
      } finally {
        clearTimeout(timer)
      }
    },
    async restart() {
      await child.end('SIGKILL')
      return startWorkerd({ ...options, port: bound })
    },
    cron: (entry) => callControl(control, '/cron', { cron: entry }, CRON_MS),
    evict: (className, name, sockets) => callControl(control, '/evict', { class: className, name, sockets }),
    abort: () => callControl(control, '/abort'),
  }
}

/** Writes everything that workerd reads and returns the path of its configuration. */
async function prepare(options: WorkerdOptions, address: string, control: { secret: string; unsafe: boolean }): Promise<string> {
  const { dir, vars = {} } = options
  const wrangler = await readWrangler(options.wrangler)
  const disks = { objects: join(dir, 'objects'), d1: join(dir, 'd1') }
  const files = join(dir, 'workerd')
  for (const path of [dir, disks.objects, disks.d1, files]) {
    await mkdir(path, { recursive: true, mode: 0o700 })
    await chmod(path, 0o700)
  }
  await copyFile(options.bundle, join(files, WORKER_FILE))
  await writeFile(join(files, CONTROL_FILE), controlWorker(control.unsafe))
  if (usesD1(wrangler, vars)) {
    for (const [name, from] of Object.entries(D1_FILES)) await copyFile(miniflareFile(from), join(files, name))
  }
  const path = join(files, 'config.capnp')
  // It holds the secrets, so there is no moment at which it is there and open to others.
  await writeFile(`${path}.new`, capnpConfig(wrangler, { address, vars, disks, control, assets: assetsOf(options.wrangler, wrangler) }), { mode: 0o600 })
  await rename(`${path}.new`, path)
  return path
}

/** A folder that is not there yet is none: workerd would not start with it. */
function assetsOf(path: string, { assets }: Wrangler): string | undefined {
  const folder = assets && absolute(dirname(path), assets.directory)
  return folder !== undefined && existsSync(folder) ? folder : undefined
}

async function untilReady(child: Guarded, ready: Promise<void>, lines: readonly string[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`workerd did not listen within ${START_MS} ms`)), START_MS)
  })
  const ended = child.exited.then((code) => {
    throw new Error(`workerd ended with ${code} before it listened\n${lines.join('\n')}`)
  })
  try {
    await Promise.race([ready, ended, late])
  } catch (error) {
    await child.end('SIGKILL')
    throw error
  } finally {
    clearTimeout(timer)
  }
}

function miniflareFile(path: string): string {
  return join(dirname(require.resolve('miniflare/package.json')), 'dist/src/workers', path)
}
