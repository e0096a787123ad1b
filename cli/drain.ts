/**
 * `runyard runner drain`: the runner of this data directory takes no new runs, finishes what is running and ends.
 *
 * The runner does it; this asks and watches. What it still holds is seen in its spool folder: a file for each run, until
 * the router has all of it.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { lockHolder } from '../router/node/data-dir.ts'
import { CliError, EXIT } from './exit.ts'
import { out, say } from './output.ts'
import { DRAIN_SIGNAL, runnerStateDir } from './runner.ts'

export interface DrainCommand {
  readonly dataDir: string
  readonly json: boolean
}

const POLL_MS = 100

export async function drainCommand({ dataDir, json }: DrainCommand): Promise<number> {
  const stateDir = runnerStateDir(dataDir)
  const pid = await lockHolder(stateDir, 'runner')
  if (pid === undefined || !(await isRunner(pid)))
    throw new CliError(EXIT.unavailable, 'no runner of this data directory is running', 'name another one with --data-dir')
  if (!signal(pid))
    throw new CliError(
      EXIT.noPermission,
      `process ${pid} is not this user\u2019s to signal`,
      'run this as the user of the runner',
    )
  let told: number | undefined
  while ((await lockHolder(stateDir, 'runner')) === pid) {
    const runs = await heldRuns(stateDir)
    if (runs !== told)
      tell(json, { event: 'draining', pid, runs }, `draining runner ${pid}: ${runs === 1 ? '1 run is' : `${runs} runs are`} left`)
    told = runs
    await sleep(POLL_MS)
  }
  const left = await heldRuns(stateDir)
  if (left > 0)
    throw new CliError(
      EXIT.failed,
      `the runner ended with ${left === 1 ? '1 run' : `${left} runs`} that the router does not have all of`,
      'its next start delivers the rest',
    )
  if (json) out(JSON.stringify({ event: 'drained', pid }))
  else say('drained: the runner has ended')
  return EXIT.ok
}

function tell(json: boolean, event: object, text: string): void {
  say(json ? JSON.stringify(event) : text)
}

async function heldRuns(stateDir: string): Promise<number> {
  const names = await readdir(join(stateDir, 'spool')).catch(() => [])
  return names.filter((name) => name.endsWith('.spool')).length
}

/** Whatever else has this pid may take the signal for its end. Without /proc the lock alone has to be believed. */
async function isRunner(pid: number): Promise<boolean> {
  const words = await readFile(`/proc/${pid}/cmdline`, 'utf8').then(
    (text) => text.split('\0'),
    () => undefined,
  )
  if (words === undefined) return process.platform !== 'linux'
  const at = words.indexOf('runner')
  return at > 0 && words[at + 1] === 'start'
}

function signal(pid: number): boolean {
  try {
    process.kill(pid, DRAIN_SIGNAL)
    return true
  } catch {
    return false
  }
}
