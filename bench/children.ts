/** Processes of the bench's own: a module each, asked and answered over Node's IPC. They end with whoever started them. */
import { fork, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'

export interface Child {
  readonly pid: number
  /** Rejects with what the handler threw, or when the process ends. */
  ask(what: string, given?: unknown): Promise<unknown>
  stop(): Promise<void>
}

type Question = { id: number; what: string; given: unknown }
type Reply = { re: number; value?: unknown; error?: string }

const running = new Set<ChildProcess>()

/** For the way out in a hurry. */
export function stopAll(): void {
  for (const child of running) child.kill('SIGKILL')
}

/** `module` from this folder, such as `load/worker.js`; ready once it says that it serves. */
export async function startChild(module: string, args: readonly string[] = []): Promise<Child> {
  const execArgv = process.env['BENCH_NODE_ARGS']?.split(' ') ?? []
  const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' }
  const child = fork(join(import.meta.dirname, module), args, { env, execArgv, stdio: ['ignore', 'ignore', 'inherit', 'ipc'], serialization: 'advanced' })
  running.add(child)
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  let over = false
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (code, signal) => {
      over = true
      running.delete(child)
      for (const { reject } of waiting.values()) reject(new Error(`${module} ended with ${code ?? signal}`))
      resolve()
    })
  })
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    void ended.then(() => reject(new Error(`${module} ended before it was ready`)))
  })
  child.on('message', ({ re, value, error }: Reply) => {
    const asked = waiting.get(re)
    waiting.delete(re)
    if (error === undefined) asked?.resolve(value)
    else asked?.reject(new Error(error))
  })
  let last = 0
  return {
    pid: child.pid!,
    ask: (what, given) =>
      new Promise((resolve, reject) => {
        if (over) return reject(new Error(`${module} has ended`))
        const id = ++last
        waiting.set(id, { resolve, reject })
        child.send({ id, what, given } satisfies Question)
      }),
    async stop() {
      if (!over) child.kill('SIGTERM')
      await ended
    },
  }
}

/** The child's side: one handler for each thing that is asked. The process ends with its parent. */
export function answer(handlers: Readonly<Record<string, (given: never) => unknown>>): void {
  process.on('message', ({ id, what, given }: Question) => {
    const handler = handlers[what] as ((given: unknown) => unknown) | undefined
    const tell = (reply: Omit<Reply, 're'>) => void process.send?.({ re: id, ...reply })
    if (!handler) return tell({ error: `nothing answers ${what}` })
    Promise.resolve()
      .then(() => handler(given))
      .then((value) => tell({ value }))
      .catch((error: unknown) => tell({ error: error instanceof Error ? error.message : String(error) }))
  })
  process.on('disconnect', () => process.exit(0))
  process.on('SIGTERM', () => process.exit(0))
  process.send?.('ready')
}
