/** A process that was spawned, whoever did it, and what is needed to spawn one. */
import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'

export type Exit = { code: number | null; signal: NodeJS.Signals | null }

export interface Spawned {
  readonly pid: number
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Never rejects. */
  readonly exited: Promise<Exit>
}

export interface SpawnOptions {
  readonly cwd: string
  /** The whole of it. */
  readonly env: Readonly<Record<string, string>>
  readonly log: (message: string, fields: Record<string, unknown>) => void
}

/**
 * By this process itself, which stands still for it. Of the child's stdin nothing is read: that it was closed with something
 * unread in it is not heard of.
 */
export function spawnHere(command: string, argv: readonly string[], { cwd, env }: SpawnOptions): Promise<Spawned> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, argv, { cwd, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    const exited = new Promise<Exit>((exit) => child.once('exit', (code, signal) => exit({ code, signal })))
    child.on('error', reject)
    child.once('spawn', () => {
      const { pid, stdin, stdout, stderr } = child
      // It has one, or there would have been an error.
      resolve({ pid: pid!, stdin, stdout, stderr, exited })
    })
  })
}
