/**
 * The sweep for a process that is about to exit and cannot wait: synchronous, by marker alone. sweep.ts has the whole
 * of it. The first round that meets nobody ends it, whether or not somebody may have been missed; what escapes here is
 * found by the next start of the runner.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { MARKER_NAME } from './env.ts'

/** They may fork while the table is read. */
const ROUNDS = 5

export function sweepNow(markers: readonly string[]): void {
  const wanted = markers.map((marker) => `${MARKER_NAME}=${marker}`)
  for (let round = 0; round < ROUNDS && wanted.length > 0; round++) {
    const doomed = processes().filter((pid) => {
      const environ = environOf(pid)
      return wanted.some((entry) => environ.includes(entry))
    })
    if (doomed.length === 0) return
    for (const pid of doomed) kill(pid)
  }
}

function processes(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter((pid) => pid > 0 && pid !== process.pid)
  } catch {
    return []
  }
}

function environOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1')
  } catch {
    return ''
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}
