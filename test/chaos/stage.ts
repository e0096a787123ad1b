/**
 * The built product on a stage of its own: a router and runners as separate processes, a bad network between all of
 * them, and the fake CLI. Everything lives below one temporary folder and on loopback.
 *
 * Faults are what others do with it. It kills only what it started: its children by their handle, and CLIs by the
 * environment that only this stage gave them.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { FaultProxy } from './fault-proxy.ts'
import { ROOT, start, type Started } from './processes.ts'
import { NodeRouter, SHUT_DOWN_MS, WorkersRouter, type HostName, type Objects, type Router } from './routers.ts'
import { call, type Answer, type Where } from './subscriber.ts'

const FAKE_CLAUDE = join(ROOT, 'test/chaos/fake-claude.mjs')
const KEY = 'sk-chaos-not-a-key'

export type StageOptions = { host: HostName; runners: number; slots: number; env?: ((runner: Pick<Runner, 'dataDir'>) => Record<string, string>) | undefined; policy?: string | undefined }

export interface Runner {
  readonly name: string
  readonly id: string
  readonly dataDir: string
  /** The network between it and the router. */
  readonly network: FaultProxy
  process: Started
}

const open = new Set<Stage>()

/** For the way out in a hurry. */
export async function closeAllStages(): Promise<void> {
  await Promise.all([...open].map((stage) => stage.close(false)))
}

export class Stage {
  readonly dir: string
  readonly diaries: string
  readonly runners: Runner[] = []
  /** Ids of runners whose CLI goes its own way to the model: what it says that it costs is all that is known. */
  readonly unmetered = new Set<string>()
  /** The network between the clients and the router. */
  network!: FaultProxy
  readonly router: Router
  readonly #options: StageOptions

  private constructor(dir: string, options: StageOptions) {
    this.dir = dir
    this.diaries = join(dir, 'diaries')
    this.#options = options
    const Host = options.host === 'node' ? NodeRouter : WorkersRouter
    this.router = new Host({ dir: join(dir, 'router'), env: this.#env(), logDir: dir })
  }

  static async open(options: StageOptions, signal: AbortSignal): Promise<Stage> {
    const stage = new Stage(await mkdtemp(join(tmpdir(), 'runyard-chaos-')), options)
    open.add(stage)
    try {
      await mkdir(stage.diaries)
      await stage.router.start()
      stage.network = await FaultProxy.start(() => stage.router.port)
      for (let n = 1; n <= options.runners; n++) {
        signal.throwIfAborted()
        await stage.#addRunner(`runner-${n}`)
      }
      return stage
    } catch (error) {
      await stage.close(false)
      throw error
    }
  }

  /** Clients come through the network. */
  get where(): Where {
    return { port: this.network.port, token: this.router.token }
  }

  /** Straight to the router, for the questions of the stage itself. */
  get direct(): Where {
    return { port: this.router.port, token: this.router.token }
  }

  /** Throws on a host that has none. */
  get objects(): Objects {
    if (!this.router.objects) throw new Error('the router of this stage has no objects')
    return this.router.objects
  }

  get databaseFile(): string {
    return join(this.dir, 'router', 'runyard.db')
  }

  ask(path: string): Promise<Answer> {
    return call(this.direct, 'GET', path)
  }

  async startRunner(runner: Omit<Runner, 'process'>, dataDir = runner.dataDir): Promise<Started> {
    const args = ['runner', 'start', '--json', `--data-dir=${dataDir}`, `--workspace=${join(dataDir, 'work')}`, `--claude=${FAKE_CLAUDE}`]
    const more = this.#options.env?.(runner) ?? {}
    const started = await start(runner.name, args, this.#env({ [this.unmetered.has(runner.id) ? 'CLAUDE_CODE_OAUTH_TOKEN' : 'ANTHROPIC_API_KEY']: KEY, CHAOS_LOG: this.diaries, ...more }), this.dir)
    await started.ready
    return started
  }

  /** Ids of the runners that the router takes for connected. */
  async online(): Promise<string[]> {
    const { data } = JSON.parse((await this.ask('/v1/runners')).body) as { data: { id: string; status: string }[] }
    return data.filter(({ status }) => status !== 'offline').map(({ id }) => id)
  }

  async untilOnline(runner: Runner, online = true, timeoutMs = 60_000): Promise<void> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const ids = await this.online().catch((): undefined => undefined)
      if (ids && ids.includes(runner.id) === online) return
      if (performance.now() > deadline) throw new Error(`${runner.name} is not ${online ? 'back' : 'found dead'} after ${timeoutMs} ms`)
      await sleep(25)
    }
  }

  /** Pids of CLIs and of what they started, as far as they live. */
  async clis(): Promise<number[]> {
    return (await this.#marked()).map(({ pid }) => pid)
  }

  /** Without what CLIs started, and those of one runner if it is given. */
  async clisOf(runner?: Pick<Runner, 'dataDir'>): Promise<number[]> {
    const theirs = runner && new Set((await processesWith(`${runner.dataDir}/`)).map(({ pid }) => pid))
    return (await this.#marked()).filter(({ pid, command }) => isCli(command) && theirs?.has(pid) !== false).map(({ pid }) => pid)
  }

  /** What is left when nothing runs, but for the CLIs that the runners say are waiting for a turn. */
  async strays(): Promise<number[]> {
    const marked = await this.#marked()
    const clis = marked.filter(({ command }) => isCli(command)).slice(await this.#waiting())
    return [...marked.filter(({ command }) => !isCli(command)), ...clis].map(({ pid }) => pid)
  }

  async #waiting(): Promise<number> {
    const waiting = await Promise.all(this.runners.map(warmOf))
    return waiting.reduce((sum, n) => sum + n, 0)
  }

  /** Of a runner's own, which are not in here: its helpers have none of its environment. */
  async #marked(): Promise<{ pid: number; command: string }[]> {
    const marked = await processesWith(`CHAOS_LOG=${this.diaries}`)
    const runners = new Set(this.runners.map(({ process }) => process.pid))
    return marked.filter(({ pid, command }) => !runners.has(pid) && !command.includes('runner start'))
  }

  async spoolFiles(): Promise<string[]> {
    return this.#inRunners('spool')
  }

  /** Runners whose objects cannot be thrown out of memory: something of them is in use. */
  async pinned(): Promise<string[]> {
    const { objects } = this.router
    if (!objects) return []
    const tried = this.runners.map(({ id, name }) => objects.evict(id, 'hibernate').then(() => [], () => [name]))
    return (await Promise.all<string[]>(tried)).flat()
  }

  /** But for as many as there are CLIs that wait: each has one. */
  async runFolders(): Promise<string[]> {
    return (await this.#inRunners('runs')).slice(await this.#waiting())
  }

  /** Ends everything as an owner would, and says what did not end as it should. */
  async shutDown(): Promise<string[]> {
    const runners = this.runners.map(async ({ name, process }) => {
      const code = await process.stop('SIGTERM', SHUT_DOWN_MS)
      return code === 0 ? undefined : `${name} ended with ${code ?? 'SIGKILL'}`
    })
    const wrong = await Promise.all([...runners, this.router.shutDown()])
    return wrong.filter((what) => what !== undefined)
  }

  /** `keep`: logs and diaries stay for a look. */
  async close(keep: boolean): Promise<void> {
    open.delete(this)
    for (const { process } of this.runners) await process.stop('SIGKILL')
    await this.router.stop('SIGKILL')
    for (const { pid } of await processesWith(`CHAOS_LOG=${this.diaries}`)) kill(pid)
    for (const { network } of this.runners) await network.close()
    await (this.network as FaultProxy | undefined)?.close()
    if (!keep) await rm(this.dir, { recursive: true, force: true, maxRetries: 5 })
  }

  async #addRunner(name: string): Promise<void> {
    const made = await call({ port: this.router.port, token: this.router.adminToken }, 'POST', '/admin/v1/enrolment-tokens', {})
    const { token } = JSON.parse(made.body) as { token: string }
    const dataDir = join(this.dir, name)
    const network = await FaultProxy.start(() => this.router.port)
    const url = `http://127.0.0.1:${network.port}`
    const args = ['runner', 'enroll', '--json', `--url=${url}`, `--token=${token}`, `--name=${name}`, `--data-dir=${dataDir}`, `--claude=${FAKE_CLAUDE}`]
    const enrolled = await (await start(`${name}-enroll`, args, this.#env(), this.dir)).ready
    // Without a namespace: the diary's pids are then those of this machine, and what a kill leaves is the sweep's to find.
    const policy = `slots = ${this.#options.slots}\nenv_allow = ["CHAOS_LOG"]\nsandbox = "none"\n${this.#options.policy ?? ''}\n`
    await writeFile(join(dataDir, 'runner', 'runner.toml'), policy)
    const enlisted = { name, id: enrolled['runner_id']!, dataDir, network }
    // Half of them, so that there are runs of both kinds.
    if (this.runners.length % 2 === 0) this.unmetered.add(enlisted.id)
    const runner: Runner = { ...enlisted, process: await this.startRunner(enlisted) }
    this.runners.push(runner)
    await this.untilOnline(runner)
  }

  #env(more: Record<string, string> = {}): Record<string, string> {
    return { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: this.dir, TMPDIR: this.dir, ...more }
  }

  async #inRunners(folder: string): Promise<string[]> {
    const found = await Promise.all(
      this.runners.map(async ({ name, dataDir }) => {
        const names = await readdir(join(dataDir, 'runner', folder)).catch((): string[] => [])
        return names.map((file) => `${name}/${file}`)
      }),
    )
    return found.flat()
  }
}

const isCli = (command: string) => command.includes(FAKE_CLAUDE)

/** How many CLIs it keeps for a next turn, or for a new session, as it says. */
async function warmOf({ dataDir }: Runner): Promise<number> {
  const { warm } = JSON.parse(await readFile(join(dataDir, 'runner', 'status.json'), 'utf8')) as { warm: { processes: number; spares: number } }
  return warm.processes + warm.spares
}

/** Processes whose environment or command line holds `needle`. */
export async function processesWith(needle: string): Promise<{ pid: number; command: string }[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0 && pid !== process.pid)
  const rows = await Promise.all(
    pids.map(async (pid) => {
      const read = (file: string) => readFile(`/proc/${pid}/${file}`, 'latin1').catch(() => '')
      const [environ, command] = await Promise.all([read('environ'), read('cmdline')])
      return environ.includes(needle) || command.includes(needle) ? [{ pid, command: command.replaceAll('\0', ' ') }] : []
    }),
  )
  return rows.flat()
}

export async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1').catch(() => '')
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024
}

/** Alive, and more than a zombie. */
export async function lives(pid: number): Promise<boolean> {
  return !['', 'Z', 'X'].includes(await stateIn(`/proc/${pid}/stat`))
}

/** Whether a thread of it runs, or would if it had a processor, or waits for the disk: what is slow then is the machine. */
export async function wantsMachine(pid: number): Promise<boolean> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  const states = await Promise.all(threads.map((thread) => stateIn(`/proc/${pid}/task/${thread}/stat`)))
  return states.some((state) => state === 'R' || state === 'D')
}

/** The letter of proc_pid_stat(5); empty when it is gone. */
async function stateIn(file: string): Promise<string> {
  const stat = await readFile(file, 'latin1').catch(() => '')
  return stat.charAt(stat.lastIndexOf(')') + 2)
}

export function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone.
  }
}
