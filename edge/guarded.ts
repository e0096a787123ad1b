/**
 * A child process that cannot outlive us, however we end. It is not asked for anything: what it prints goes to
 * `onLine`, and who needs an orderly end sends a signal.
 */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { createInterface } from 'node:readline'

/**
 * We hold the other end of the shell's stdin: when we die, even by SIGKILL, `cat` sees the end and the child is killed.
 * The first line on fd 3 is the child's pid; what the child writes there follows. The watcher is ended with the child:
 * soon the pid may be of somebody else.
 */
const GUARD = `exec 4<&0
"$@" 4<&- </dev/null &
child=$!
echo "{\\"pid\\":$child}" >&3
(exec 3>&- >/dev/null 2>&1; cat <&4; kill -9 $child) &
watcher=$!
exec 3>&- 4<&-
wait $child
code=$?
kill $watcher
exit $code`

export interface GuardedOptions {
  readonly cwd?: string
  readonly env?: Record<string, string>
  /** Lines of its stdout and stderr. */
  readonly onLine?: (line: string) => void
  /** JSON that the child writes to fd 3, a line each. */
  readonly onReport?: (report: Readonly<Record<string, unknown>>) => void
}

export interface Guarded {
  readonly pid: number
  /** Its exit code, or 128 and the number of the signal that ended it. Resolves when its output was read to the end. */
  readonly exited: Promise<number>
  /** Sends the signal unless it has ended, and resolves with `exited`. */
  end(signal: NodeJS.Signals): Promise<number>
}

/** Starts `command`, by absolute path or from PATH. Needs a POSIX shell. A command that is not there exits with 127. */
export async function spawnGuarded(command: string, args: readonly string[], options: GuardedOptions = {}): Promise<Guarded> {
  // A session of its own: Ctrl-C in a terminal is for us to hear, and ours to pass on.
  const shell = spawn('/bin/sh', ['-c', GUARD, 'sh', command, ...args], {
    cwd: options.cwd,
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    detached: true,
  })
  let ended = false
  const exited = new Promise<number>((resolve, reject) => {
    shell.once('error', reject)
    shell.once('exit', () => {
      ended = true
      // A `cat` that is left over ends by this, and with it the last holder of the output.
      shell.stdin.destroy()
    })
    shell.once('close', (code, signal) => resolve(code ?? (signal === 'SIGKILL' ? 137 : 143)))
  })
  shell.stdin.on('error', () => undefined)
  for (const input of [shell.stdout, shell.stderr]) createInterface({ input }).on('line', (line) => options.onLine?.(line))

  const pid = await new Promise<number>((resolve, reject) => {
    createInterface({ input: shell.stdio[3] as Readable }).on('line', (line) => {
      const report = JSON.parse(line) as Record<string, unknown>
      if (typeof report['pid'] === 'number') resolve(report['pid'])
      else options.onReport?.(report)
    })
    exited.then((code) => reject(new Error(`the shell ended with ${code}`)), reject)
  })
  return {
    pid,
    exited,
    end(signal) {
      try {
        if (!ended) process.kill(pid, signal)
      } catch (error) {
        // It has ended, and the shell's end is on its way to us.
        if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
      }
      return exited
    },
  }
}
