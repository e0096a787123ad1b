/**
 * CLIs are spawned by a small process beside the runner, which hands their pipes over.
 *
 * A process that forks stands still while its page tables are copied: for a runner of 168 MiB that streams, the pause was 45
 * ms in the middle (Node 20, libuv 1.46), for one of 370 MiB 54; from a thread 31 and 33; from a process of 45 MiB beside
 * it, none that could be told from the others. Each live stream of the runner would wait for it.
 *
 * The pipes are sockets between the runner and the CLI, as they are without this: what a CLI prints passes nobody. The
 * helper is started when it is needed first, and again should it die; what it had spawned is killed then. It ends with
 * the runner, and a sandbox that dies with its parent dies with it.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'

export type Exit = { code: number | null; signal: NodeJS.Signals | null }

export interface Spawned {
  readonly pid: number
  readonly stdin: Socket
  readonly stdout: Socket
  readonly stderr: Socket
  /** Never rejects. */
  readonly exited: Promise<Exit>
}

export interface SpawnOptions {
  readonly cwd: string
  /** The whole of it. */
  readonly env: Readonly<Record<string, string>>
}

const PROCESS = fileURLToPath(new URL('spawner-process.mjs', import.meta.url))
const SECRET_BYTES = 16
const ID_CHARS = 8
/** What each pipe begins with: the secret, which start it is of, and which of its pipes it is. */
const NAME_CHARS = 2 * SECRET_BYTES + ID_CHARS + 1

const News = z.object({
  id: z.string(),
  pid: z.number().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  exit: z.object({ code: z.number().nullable(), signal: z.custom<NodeJS.Signals>((name) => typeof name === 'string').nullable() }).optional(),
})
type News = z.infer<typeof News>

/** They are opened before the CLI is spawned, and heard of on another way. */
const PIPES_MS = 1_000

export class Spawner {
  #helper: Promise<Helper> | undefined

  /** Starts the helper, if there is none. */
  async ready(): Promise<void> {
    await this.#living()
  }

  /**
   * Rejects with what Node says of a spawn that fails. The process is in a group of its own, so that a signal for it does not
   * reach the runner.
   */
  async spawn(command: string, argv: readonly string[], options: SpawnOptions): Promise<Spawned> {
    return (await this.#living()).spawn(command, argv, options)
  }

  #living(): Promise<Helper> {
    const helper = (this.#helper ??= Helper.start(() => {
      if (this.#helper === helper) this.#helper = undefined
    }))
    helper.catch(() => (this.#helper = undefined))
    return helper
  }
}

/** One start, from its request to its exit. */
class Start {
  readonly spawned: Promise<Spawned>
  readonly #exited: Promise<Exit>
  readonly #pipes: (Socket | undefined)[] = [undefined, undefined, undefined]
  #pid: number | undefined
  #isOver = false
  #resolve: (spawned: Spawned) => void = () => undefined
  #reject: (error: Error) => void = () => undefined
  #exit: (exit: Exit) => void = () => undefined

  constructor() {
    this.spawned = new Promise((resolve, reject) => ([this.#resolve, this.#reject] = [resolve, reject]))
    this.#exited = new Promise((resolve) => (this.#exit = resolve))
  }

  /** Nothing more is to come of it, but for pipes that are under way. */
  get isOver(): boolean {
    return this.#isOver
  }

  get #isWhole(): boolean {
    return this.#pid !== undefined && !this.#pipes.includes(undefined)
  }

  pipe(fd: number, socket: Socket): void {
    this.#pipes[fd] = socket
    this.#look()
  }

  hear({ pid, error, exit }: News): void {
    this.#pid ??= pid
    this.#look()
    if (error) this.#fail(Object.assign(new Error(error.message), { code: error.code }))
    if (exit) this.#end(exit)
  }

  /** The helper is gone, and what it started is nobody's child any more. */
  abandon(): void {
    if (this.#pid !== undefined) killGroup(this.#pid)
    this.#end({ code: null, signal: 'SIGKILL' })
    this.#fail(new Error('the process that spawns CLIs has ended'))
  }

  #look(): void {
    const [stdin, stdout, stderr] = this.#pipes
    if (this.#pid === undefined || !stdin || !stdout || !stderr) return
    // Nothing comes of it; that it is closed at the other end is only heard by who reads.
    stdin.resume()
    this.#resolve({ pid: this.#pid, stdin, stdout, stderr, exited: this.#exited })
  }

  #end(exit: Exit): void {
    this.#isOver = true
    this.#exit(exit)
    // One of its pipes was refused, for want of descriptors; else it is on its way.
    if (!this.#isWhole) setTimeout(() => this.#fail(new Error('the pipes of the CLI did not open')), PIPES_MS)
  }

  #fail(error: Error): void {
    this.#isOver = true
    if (this.#isWhole) return
    this.#reject(error)
    for (const socket of this.#pipes) socket?.destroy()
  }
}

class Helper {
  readonly #process: ChildProcess
  readonly #secret: string
  readonly #starts = new Map<string, Start>()
  #count = 0

  static async start(gone: () => void): Promise<Helper> {
    // 0700; the helper removes it with itself.
    const dir = await mkdtemp(join(tmpdir(), 'runyard-spawner-'))
    const server = createServer()
    try {
      const path = join(dir, 'pipes')
      await new Promise<void>((resolve, reject) => server.on('error', reject).listen(path, resolve))
      return new Helper(server, path, gone)
    } catch (error) {
      await rm(dir, { recursive: true, force: true })
      throw error
    }
  }

  constructor(server: Server, path: string, gone: () => void) {
    this.#secret = randomBytes(SECRET_BYTES).toString('hex')
    this.#process = fork(PROCESS, [], { detached: true, env: {}, execArgv: [], stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
    server.on('connection', (socket) => this.#claim(socket))
    this.#process.on('message', (news) => this.#hear(News.parse(news)))
    let over = false
    const end = (): void => {
      if (over) return
      over = true
      gone()
      server.close()
      rmSync(dirname(path), { recursive: true, force: true })
      for (const start of this.#starts.values()) start.abandon()
      this.#starts.clear()
    }
    this.#process.once('error', end)
    this.#process.once('exit', end)
    // Neither keeps a runner from ending; a CLI that lives does.
    this.#process.unref()
    server.unref()
    this.#process.send({ path, secret: this.#secret })
    this.#hold()
  }

  spawn(command: string, argv: readonly string[], { cwd, env }: SpawnOptions): Promise<Spawned> {
    const id = (++this.#count).toString(16).padStart(ID_CHARS, '0')
    const start = new Start()
    this.#starts.set(id, start)
    this.#hold()
    // A channel that is closed is heard of by its end.
    this.#process.send({ id, command, argv, cwd, env }, () => undefined)
    return start.spawned
  }

  #hear(news: News): void {
    const start = this.#starts.get(news.id)
    start?.hear(news)
    if (start?.isOver) setTimeout(() => this.#starts.delete(news.id), PIPES_MS).unref()
    this.#hold()
  }

  /** Anybody of this machine's user could connect, so a pipe is one of ours only when it says the secret. */
  #claim(socket: Socket): void {
    socket.on('error', () => socket.destroy())
    const look = (): void => {
      const name = (socket.read(NAME_CHARS) as Buffer | null)?.toString('latin1')
      if (name === undefined) return
      socket.off('readable', look)
      const start = name.startsWith(this.#secret) ? this.#starts.get(name.slice(2 * SECRET_BYTES, -1)) : undefined
      if (start) start.pipe(Number(name.at(-1)), socket)
      else socket.destroy()
    }
    socket.on('readable', look)
  }

  #hold(): void {
    if ([...this.#starts.values()].some(({ isOver }) => !isOver)) this.#process.channel?.ref()
    else this.#process.channel?.unref()
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nothing of it is left.
  }
}
