/** One start by the helper, from its request to its exit: put together from what the helper says and the pipes that arrive. */
import type { Socket } from 'node:net'
import { z } from 'zod'
import type { Exit, Spawned } from './spawned.ts'

/** What the helper says of a start. */
export const News = z.object({
  id: z.string(),
  pid: z.number().optional(),
  /** What Node says of a spawn that fails. */
  error: z.object({ code: z.string(), message: z.string() }).optional(),
  /** Why the pipes cannot be opened. Nothing was spawned. */
  unreached: z.string().optional(),
  exit: z.object({ code: z.number().nullable(), signal: z.custom<NodeJS.Signals>((name) => typeof name === 'string').nullable() }).optional(),
})
export type News = z.infer<typeof News>

/** Nothing was spawned, for want of a helper. */
export class Unreached extends Error {}

/** The pipes are opened before the CLI is spawned, and heard of on another way. */
export const PIPES_MS = 1_000

export class Start {
  readonly spawned: Promise<Spawned>
  readonly #exited: Promise<Exit>
  readonly #pipes: (Socket | undefined)[] = [undefined, undefined, undefined]
  #pid: number | undefined
  #isOver = false
  #patience: NodeJS.Timeout | undefined
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

  pipe(fd: number, socket: Socket): void {
    this.#pipes[fd] = socket
    this.#look()
  }

  hear({ pid, error, unreached, exit }: News): void {
    if (pid !== undefined) this.#begin(pid)
    if (error) this.fail(Object.assign(new Error(error.message), { code: error.code }))
    if (unreached !== undefined) this.fail(new Unreached(unreached))
    if (exit) this.#end(exit)
  }

  /** The helper is gone, and what it started is nobody's child any more. */
  abandon(): void {
    if (this.#pid !== undefined && !this.#isOver) killGroup(this.#pid)
    this.#end({ code: null, signal: 'SIGKILL' })
    this.fail(new Error('the process that spawns CLIs has ended'))
  }

  /** Does nothing to a start that has succeeded. */
  fail(error: Error): void {
    this.#isOver = true
    if (this.#isWhole) return
    clearTimeout(this.#patience)
    this.#reject(error)
    for (const socket of this.#pipes) socket?.destroy()
  }

  get #isWhole(): boolean {
    return this.#pid !== undefined && !this.#pipes.includes(undefined)
  }

  #begin(pid: number): void {
    this.#pid = pid
    // One of its pipes may have been refused, for want of descriptors; else all are on their way.
    this.#patience = setTimeout(() => {
      if (!this.#isOver) killGroup(pid)
      this.fail(new Error('the pipes of the CLI did not open'))
    }, PIPES_MS)
    this.#look()
  }

  #look(): void {
    const [stdin, stdout, stderr] = this.#pipes
    if (this.#pid === undefined || !stdin || !stdout || !stderr) return
    clearTimeout(this.#patience)
    // Nothing comes of it; that it is closed at the other end is only heard by who reads.
    stdin.resume()
    this.#resolve({ pid: this.#pid, stdin, stdout, stderr, exited: this.#exited })
  }

  #end(exit: Exit): void {
    this.#isOver = true
    this.#exit(exit)
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nothing of it is left.
  }
}
