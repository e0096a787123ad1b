/** `runyard` commands as children of this one: an environment with nothing but what is given, logs in a file each. */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** The checkout, wherever below it this file was compiled to. */
export const ROOT = rootAbove(dirname(fileURLToPath(import.meta.url)))
const MAIN = join(ROOT, 'dist/cli/main.js')

export interface Started {
  readonly name: string
  readonly pid: number
  /** The first line that it prints, which is JSON. Rejects when it ends before. */
  readonly ready: Promise<Record<string, string>>
  /** Resolves to the exit code; undefined after a signal. */
  readonly ended: Promise<number | undefined>
  signal(name: NodeJS.Signals): void
  /** Sends the signal if it still runs, and SIGKILL when it has not ended by then. Resolves to the exit code, as `ended`. */
  stop(signal: NodeJS.Signals, withinMs?: number): Promise<number | undefined>
}

const running = new Set<ChildProcess>()

/** For the way out in a hurry. */
export function killAll(): void {
  for (const child of running) child.kill('SIGKILL')
}

export async function start(name: string, args: readonly string[], env: Record<string, string>, logDir: string): Promise<Started> {
  const log = await open(join(logDir, `${name}.log`), 'a')
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', log.fd] })
  running.add(child)
  await log.close()
  const ended = new Promise<number | undefined>((resolve) =>
    child.once('exit', (code) => {
      running.delete(child)
      resolve(code ?? undefined)
    }),
  )
  const ready = new Promise<Record<string, string>>((resolve, reject) => {
    createInterface({ input: child.stdout! }).on('line', (line) => resolve(JSON.parse(line) as Record<string, string>))
    void ended.then((code) => reject(new Error(`${name} ended with ${code} before it was ready; see ${logDir}/${name}.log`)))
  })
  ready.catch(() => undefined)
  const alive = () => child.exitCode === null && child.signalCode === null
  return {
    name,
    pid: child.pid!,
    ready,
    ended,
    signal: (signal) => void child.kill(signal),
    async stop(signal, withinMs = 10_000) {
      if (!alive()) return ended
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), withinMs)
      const code = await ended
      clearTimeout(timer)
      return code
    },
  }
}

function rootAbove(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : rootAbove(dirname(folder))
}
