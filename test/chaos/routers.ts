/**
 * The router of a stage on either host: `runyard router` as a process, or the bundled Worker in workerd.
 *
 * Both keep their data and their port over any number of ends. When and how they end is the caller's to say.
 */
import { appendFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { currentBundle, WRANGLER } from '../../edge/bundle.ts'
import { localToken } from '../../edge/tokens.ts'
import { startWorkerd, type RunningWorkerd } from '../../edge/workerd.ts'
import { loadKeys, workerSecrets } from '../../router/node/data-dir.ts'
import { start, type Started } from './processes.ts'

export type HostName = 'node' | 'workers'

export interface Router {
  readonly pid: number
  readonly port: number
  readonly token: string
  readonly adminToken: string
  /** Also after its end, on the same data and port. */
  start(): Promise<void>
  /** Sends the signal, and SIGKILL when it has not ended by then. Resolves to the exit code; undefined after a SIGKILL. */
  stop(signal: 'SIGTERM' | 'SIGKILL', withinMs?: number): Promise<number | undefined>
  /** Ends it as its command does when it is told to; what was wrong with that. */
  shutDown(): Promise<string | undefined>
  /** What only the Workers host has. */
  readonly objects?: Objects
}

export interface Objects {
  /** Throws the object of a runner out of memory. Rejects when something in it is in use for seconds. */
  evict(runner: string, sockets: 'hibernate' | 'close'): Promise<void>
  evictPool(): Promise<void>
  /** Breaks every object in the middle of what it does. */
  abort(): Promise<void>
}

/** Runners have as long. */
export const SHUT_DOWN_MS = 12_000

export type RouterOptions = { dir: string; env: Record<string, string>; logDir: string }

export class NodeRouter implements Router {
  readonly #o: RouterOptions
  #started: Started | undefined
  port = 0
  token = ''
  adminToken = ''

  constructor(options: RouterOptions) {
    this.#o = options
  }

  get pid(): number {
    return this.#started!.pid
  }

  async start(): Promise<void> {
    const args = ['router', '--json', `--port=${this.port}`, `--data-dir=${this.#o.dir}`]
    this.#started = await start('router', args, this.#o.env, this.#o.logDir)
    const ready = await this.#started.ready
    this.port = Number(new URL(ready['url']!).port)
    this.token = ready['token']!
    this.adminToken = ready['admin_token']!
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL', withinMs?: number): Promise<number | undefined> {
    return this.#started?.stop(signal, withinMs)
  }

  async shutDown(): Promise<string | undefined> {
    const code = await this.stop('SIGTERM', SHUT_DOWN_MS)
    return code === 0 ? undefined : `the router ended with ${code ?? 'SIGKILL'}`
  }
}

/** The pool of runners that were enrolled without naming one. */
const POOL = 'default/default'
const KILLED = 128 + 9
const ANSWER_MS = 15_000
const EDGE_STOP_MS = 2_000

export class WorkersRouter implements Router {
  readonly #o: RouterOptions
  #worker: RunningWorkerd | undefined
  token = ''
  adminToken = ''

  constructor(options: RouterOptions) {
    this.#o = options
  }

  get pid(): number {
    return this.#worker!.pid
  }

  get port(): number {
    return this.#worker?.port ?? 0
  }

  readonly objects: Objects = {
    evict: (runner, sockets) => this.#worker!.evict('RunnerDO', runner, sockets),
    evictPool: () => this.#worker!.evict('PoolDO', POOL, 'close'),
    abort: () => this.#worker!.abort(),
  }

  async start(): Promise<void> {
    this.#worker = this.#worker ? await this.#worker.restart() : await this.#first()
    // The first request makes the tables.
    await fetch(`${this.#worker.url}/healthz`, { signal: AbortSignal.timeout(ANSWER_MS) })
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL', withinMs?: number): Promise<number | undefined> {
    const code = await (signal === 'SIGKILL' ? this.#worker?.kill() : this.#worker?.stop(withinMs))
    return code === KILLED ? undefined : code
  }

  /**
   * `npm run edge` waits as long. Whether workerd ends by itself until then is no matter of ours: it keeps what a client
   * reset between its upgrade request and the answer (1.20261023.1), and waits for it.
   */
  async shutDown(): Promise<string | undefined> {
    const died = await Promise.race([this.#worker!.exited, sleep(0)])
    await this.stop('SIGTERM', EDGE_STOP_MS)
    return died === undefined ? undefined : `workerd had ended with ${died} by itself`
  }

  async #first(): Promise<RunningWorkerd> {
    const { dir, logDir } = this.#o
    await mkdir(dir, { mode: 0o700 })
    const keys = await loadKeys(dir)
    this.token = await localToken(keys, 'app', undefined, Date.now())
    this.adminToken = await localToken(keys, 'admin', undefined, Date.now())
    return startWorkerd({
      bundle: await currentBundle(),
      wrangler: WRANGLER,
      dir: join(dir, 'edge'),
      unsafe: true,
      vars: await workerSecrets(dir),
      onLine: (line) => appendFileSync(join(logDir, 'router.log'), `${line}\n`),
    })
  }
}
