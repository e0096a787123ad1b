/**
 * The process that spawns CLIs, seen from the runner: what it is asked, what it says, and the pipes that come from it.
 *
 * It ends with the runner; once retired, with the last CLI that it has spawned. Should it die, those are killed.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import type { Server, Socket } from 'node:net'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Spawned, SpawnOptions } from './spawned.ts'
import { listenNearby } from './spawner-socket.ts'
import { News, PIPES_MS, Start, Unreached } from './spawner-start.ts'

const PROCESS = fileURLToPath(new URL('spawner-process.mjs', import.meta.url))
const SECRET_BYTES = 16
const ID_CHARS = 8
/** What each pipe begins with: the secret, which start it is of, and which of its pipes it is. */
const NAME_CHARS = 2 * SECRET_BYTES + ID_CHARS + 1

export class Helper {
  readonly #process: ChildProcess
  readonly #secret: string
  readonly #starts = new Map<string, Start>()
  #count = 0
  #isRetired = false

  /** Throws `Unreached` where there can be none. `gone` is called when a helper that did start has ended. */
  static async start(gone: () => void): Promise<Helper> {
    try {
      const { server, path } = await listenNearby()
      const close = (): void => {
        server.close()
        rmSync(dirname(path), { recursive: true, force: true })
      }
      try {
        const child = await forked(path)
        return new Helper(child, server, () => (close(), gone()))
      } catch (error) {
        close()
        throw error
      }
    } catch (error) {
      throw new Unreached(`the process that spawns CLIs does not start: ${(error as Error).message}`, { cause: error })
    }
  }

  constructor(child: ChildProcess, server: Server, gone: () => void) {
    this.#process = child
    this.#secret = randomBytes(SECRET_BYTES).toString('hex')
    server.on('connection', (socket) => this.#claim(socket))
    child.on('message', (news) => this.#hear(News.parse(news)))
    // Not at its exit: what it said last is read by now.
    child.once('disconnect', () => {
      gone()
      for (const start of this.#starts.values()) start.abandon()
      this.#starts.clear()
    })
    // Neither keeps a runner from ending; a CLI that lives does.
    child.unref()
    server.unref()
    this.#send({ secret: this.#secret }, () => undefined)
    this.#hold()
  }

  /** Rejects with what Node says of a spawn that fails, or with `Unreached`. */
  spawn(command: string, argv: readonly string[], { cwd, env }: SpawnOptions): Promise<Spawned> {
    const id = (++this.#count).toString(16).padStart(ID_CHARS, '0')
    const start = new Start()
    this.#starts.set(id, start)
    this.#hold()
    this.#send({ id, command, argv, cwd, env }, (error) => {
      start.fail(new Unreached(error.message, { cause: error }))
      this.#starts.delete(id)
      this.#hold()
    })
    return start.spawned
  }

  /** It is to end, but not before what it has spawned. */
  retire(): void {
    this.#isRetired = true
    this.#hold()
  }

  #send(message: Record<string, unknown>, failed: (error: Error) => void): void {
    this.#process.send(message, (error: Error | null) => {
      if (error) failed(error)
    })
  }

  #hear(news: News): void {
    const start = this.#starts.get(news.id)
    start?.hear(news)
    if (start?.isOver) {
      const forget = (): void => {
        this.#starts.delete(news.id)
        this.#hold()
      }
      setTimeout(forget, PIPES_MS).unref()
    }
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
    if (this.#isRetired && this.#starts.size === 0 && this.#process.connected) this.#process.disconnect()
    if ([...this.#starts.values()].some(({ isOver }) => !isOver)) this.#process.channel?.ref()
    else this.#process.channel?.unref()
  }
}

/** Resolves when it has said that it is there. */
async function forked(path: string): Promise<ChildProcess> {
  const child = fork(PROCESS, [path], { detached: true, env: {}, execArgv: [], stdio: ['ignore', 'ignore', 'ignore', 'ipc'] })
  const stop = new AbortController()
  const { signal } = stop
  // One that cannot be forked says so up to twice, and later calls have no other place for an error.
  child.on('error', (error) => stop.abort(error))
  child.once('exit', (code, killed) => stop.abort(new Error(`it ended at once (${killed ?? code})`)))
  try {
    await once(child, 'message', { signal })
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  }
  if (!child.connected) throw new Error('it has ended')
  return child
}
