/**
 * Runyard as a user has it: the built command in processes of its own, an environment with nothing in it but what is
 * given here, and a temporary HOME. Every process that was started is ended by `close`, by pid.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
export const EDGE = fileURLToPath(new URL('../../dist/edge/main.js', import.meta.url))
export const CLAUDE = fileURLToPath(new URL('../../node_modules/.bin/claude', import.meta.url))

export type Ended = { code: number | null; stdout: string; stderr: string }

export interface Command {
  readonly child: ChildProcess
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
  /** The first stdout line that is JSON with this `event`; rejects with stderr when the process ends before. */
  event(name: string): Promise<Record<string, string>>
  readonly ended: Promise<Ended>
  stop(signal?: NodeJS.Signals): Promise<Ended>
}

export interface Machine {
  readonly home: string
  readonly dataDir: string
  readonly workspace: string
  /** Starts `runyard <args>`, or another command of ours; `env` is added to PATH and HOME. */
  start(args: readonly string[], env?: Record<string, string>, main?: string): Command
  /** Starts it and waits for its end. */
  runyard(args: readonly string[], env?: Record<string, string>): Promise<Ended>
  close(): Promise<void>
}

export async function newMachine(): Promise<Machine> {
  const home = await realpath(await mkdtemp(join(tmpdir(), 'runyard-e2e-')))
  const dataDir = join(home, 'data')
  const workspace = join(home, 'work')
  await mkdir(workspace)
  const commands: Command[] = []
  const machine: Machine = {
    home,
    dataDir,
    workspace,
    start(args, env = {}, main = MAIN) {
      const command = startCommand(main, args, { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: home, TMPDIR: home, ...env })
      commands.push(command)
      return command
    },
    runyard: (args, env) => machine.start(args, env).ended,
    async close() {
      await Promise.all(commands.map((c) => c.stop()))
      await rm(home, { recursive: true, force: true, maxRetries: 3 })
    },
  }
  return machine
}

function startCommand(main: string, args: readonly string[], env: Record<string, string>): Command {
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  const stdout: string[] = []
  const stderr: string[] = []
  const seen = new Set<(line: string) => void>()
  createInterface({ input: child.stdout }).on('line', (line) => {
    stdout.push(line)
    for (const look of seen) look(line)
  })
  createInterface({ input: child.stderr }).on('line', (line) => stderr.push(line))
  const ended = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, stdout: stdout.join('\n'), stderr: stderr.join('\n') })))
  return {
    child,
    stdout,
    stderr,
    ended,
    event: (name) =>
      new Promise((resolve, reject) => {
        const look = (line: string) => {
          const json = line.startsWith('{') ? (JSON.parse(line) as Record<string, string>) : {}
          if (json['event'] === name) resolve(json)
        }
        seen.add(look)
        for (const line of stdout) look(line)
        void ended.then(({ code, stderr: said, stdout: printed }) => reject(new Error(`ended with ${code} before ${name}\n${said}\n${printed}`)))
      }),
    async stop(signal = 'SIGTERM') {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal)
      return ended
    },
  }
}

/** Every process whose environment or command line holds `needle`. */
export async function processesWith(needle: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const environ = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '')
    const command = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')
    if (environ.includes(needle) || command.includes(needle)) found.push(`${pid} ${command.replaceAll('\0', ' ').slice(0, 200)}`)
  }
  return found
}
