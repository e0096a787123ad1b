/**
 * A child process with its pipes: lines come out, lines go in, and `gone` says when nothing of it is left.
 *
 * It knows nothing of what the lines say. A process counts as gone after its exit, the sweep and the end of its output,
 * in this order: a child that outlived it may hold the pipe open until the sweep kills it.
 */
import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '../../shared/faults.ts'
import type { StderrMark } from '../../shared/marks.ts'
import { Pieces, type Piece } from './pieces.ts'
import type { Exit, Spawned } from './spawned.ts'
import { Spawner } from './spawner.ts'
import { StderrHead } from './stderr.ts'
import { familyOf, sweep, type Relative } from './sweep.ts'

export type { Exit } from './spawned.ts'

export type ChildOptions = {
  cwd: string
  env: Readonly<Record<string, string>>
  marker: string
  /** The command is a wrapper of what is meant: a gentle signal is not for it. */
  wrapped?: boolean
  /** Called for each piece of stdout. If it throws the process is killed. */
  take: (piece: Piece) => void
  log: (message: string, fields: Record<string, unknown>) => void
}

/** One for all CLIs of a runner: it starts with the first of them. */
export const spawner = new Spawner()

/** How long nothing may arrive on a pipe of a process that is gone, before the pipe is given up. */
const DRAIN_IDLE_MS = 2_000

export class Child {
  readonly pid: number
  readonly exited: Promise<Exit>
  /** Never rejects. */
  readonly gone: Promise<Exit>
  readonly #child: Spawned
  readonly #options: ChildOptions
  readonly #pieces = new Pieces()
  #stderr: StderrHead
  readonly #closed: Promise<void>
  #family: Relative[] = []
  #paused = false
  #bytesRead = 0
  #leftUnread = false
  #broken = false

  /** Throws `Fault('cwd')` where the folder is missing and `Fault('cli')` for any other reason not to start. */
  static async spawn(command: string, argv: readonly string[], options: ChildOptions): Promise<Child> {
    try {
      return new Child(await spawner.spawn(command, argv, options), options)
    } catch (err) {
      options.log('the CLI could not be spawned', { err })
      // ENOENT is said of the folder as of the program.
      if (!existsSync(options.cwd)) throw new Fault('cwd', 'the working directory does not exist')
      const { code } = err as NodeJS.ErrnoException
      throw new Fault('cli', `the CLI could not be started (${code ?? 'no process'})`)
    }
  }

  constructor(child: Spawned, options: ChildOptions) {
    const { pid } = child
    this.#child = child
    this.pid = pid
    this.#options = options
    this.#stderr = new StderrHead(options.env)
    this.exited = child.exited
    this.#closed = Promise.all([ended(child.stdout), ended(child.stderr)]).then(() => undefined)
    // EPIPE and the like: that the process is gone is learned from its exit.
    const broke = (err: Error): void => options.log('a pipe of the CLI broke', { pid, err })
    for (const stream of [child.stdout, child.stderr]) stream.on('error', broke)
    child.stdin.on('error', (err: NodeJS.ErrnoException) => {
      this.#leftUnread ||= err.code === 'ECONNRESET' || err.code === 'EPIPE'
      // Whoever is killed leaves something unread; nothing is read from its stdin that could be missed.
      if (err.code !== 'ECONNRESET') broke(err)
    })
    child.stdout.on('data', (chunk: Buffer) => this.#read(chunk.length, () => this.#pieces.push(chunk)))
    child.stdout.once('end', () => this.#read(0, () => this.#pieces.end()))
    child.stderr.on('data', (chunk: Buffer) => this.#stderr.push(chunk))
    this.gone = this.#untilGone()
  }

  write(line: string): void {
    if (!this.#child.stdin.writableEnded) this.#child.stdin.write(line)
  }

  closeInput(): void {
    this.#child.stdin.end()
  }

  /** Remembers what now descends from it: after its death a child that cleaned its environment could not be told. */
  async noteFamily(): Promise<void> {
    this.#family.push(...(await familyOf(this.pid)))
  }

  /**
   * To its process group; what runs in sessions of its own is left to the sweep. A wrapper is spared a SIGTERM: bwrap
   * would die of it at once, and take the CLI along before that could end in order. `noteFamily` tells who is meant.
   */
  signal(name: 'SIGTERM' | 'SIGKILL'): void {
    if (name === 'SIGKILL' || this.#options.wrapped !== true) return send(-this.pid, name)
    const meant = new Set(this.#family.filter(({ pid, group }) => group === this.pid && pid !== this.pid).map(({ pid }) => pid))
    for (const pid of meant) send(pid, name)
  }

  pause(): void {
    this.#paused = true
    this.#child.stdout.pause()
  }

  resume(): void {
    this.#paused = false
    this.#child.stdout.resume()
  }

  /** Neither end of its pipes is known to be closed. */
  get hears(): boolean {
    return this.#child.stdin.writable && this.#child.stdout.readable
  }

  /** What of its stdout has arrived. */
  get bytesRead(): number {
    return this.#bytesRead
  }

  /** It has closed its stdin, and did not read the last of what was written: so says the kernel, whose sockets the pipes are. */
  get leftUnread(): boolean {
    return this.#leftUnread
  }

  stderr(): StderrMark {
    return this.#stderr.mark()
  }

  /** And begins a new one. */
  takeStderr(): StderrMark {
    const mark = this.#stderr.mark()
    this.#stderr = new StderrHead(this.#options.env)
    return mark
  }

  #read(bytes: number, split: () => Piece[]): void {
    this.#bytesRead += bytes
    if (this.#broken) return
    try {
      for (const piece of split()) this.#options.take(piece)
    } catch (err) {
      this.#broken = true
      this.#options.log('a line of the CLI could not be taken; it is killed', { pid: this.pid, err })
      this.signal('SIGKILL')
    }
  }

  async #untilGone(): Promise<Exit> {
    const exit = await this.exited
    // Without /proc the group is all that can be reached.
    if (process.platform !== 'linux') this.signal('SIGKILL')
    const unsure = () => this.#options.log('of the CLI some processes may be left', { pid: this.pid })
    const killed = await sweep(this.#options.marker, this.#family, unsure)
    if (killed > 0) this.#options.log('processes that outlived the CLI were killed', { pid: this.pid, killed })
    await this.#drained()
    return exit
  }

  /** A paused reader may take its time; a pipe that somebody beyond the sweep's reach holds open may not. */
  async #drained(): Promise<void> {
    let closed = false
    void this.#closed.then(() => (closed = true))
    for (;;) {
      const before = this.#bytesRead
      const stop = new AbortController()
      const idle = sleep(DRAIN_IDLE_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      await Promise.race([this.#closed, idle])
      stop.abort()
      if (closed) return
      if (this.#paused || this.#bytesRead > before) continue
      this.#options.log('a pipe of the CLI stays open after its end', { pid: this.pid })
      this.#child.stdout.destroy()
      this.#child.stderr.destroy()
      return
    }
  }
}

function send(to: number, name: NodeJS.Signals): void {
  try {
    process.kill(to, name)
  } catch {
    // Nothing of it is left.
  }
}

function ended(stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    stream.once('end', resolve)
    stream.once('close', resolve)
  })
}
