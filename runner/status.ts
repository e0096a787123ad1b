/**
 * What a runner's process says of itself to whoever asks on this machine: `status.json` in its state directory (0600),
 * written when something has changed and taken away at its end. No secret is in it. One that a killed process has left
 * says nothing about now: the reader has to look whether `pid` holds the runner's lock.
 */
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { LocalProvider } from '../shared/frames.ts'
import { Policy, PolicySource } from './policy.ts'

export const RunnerStatus = z.object({
  pid: z.int().positive(),
  started_at: z.iso.datetime(),
  runner_id: z.string(),
  /** Where it dials, which is not always where it enrolled. */
  url: z.string(),
  connected: z.boolean(),
  draining: z.boolean(),
  slots: z.int(),
  busy: z.int(),
  /** CLIs that wait for a next turn, and for a new session. */
  warm: z.object({ processes: z.int(), spares: z.int(), memory_bytes: z.int(), budget_bytes: z.int() }),
  /** `env`: variables of its environment; `login`: the login of its user. */
  login: z.enum(['env', 'login', 'none']),
  /** What pays where the router names no provider. */
  provider: LocalProvider.nullable(),
  sandbox: z.object({ mode: z.string(), means: z.string() }),
  agent_version: z.string(),
  cli: z.object({ path: z.string(), version: z.string().nullable() }),
  /** Those of the command line included. */
  workspaces: z.array(z.string()),
  policy: Policy,
  source: PolicySource,
})
export type RunnerStatus = z.infer<typeof RunnerStatus>

const STATUS_FILE = 'status.json'
const LOOK_MS = 250

/** Undefined: there is none, or it is of another version of this program. */
export async function readStatus(stateDir: string): Promise<RunnerStatus | undefined> {
  try {
    return RunnerStatus.parse(JSON.parse(await readFile(join(stateDir, STATUS_FILE), 'utf8')))
  } catch {
    return undefined
  }
}

/** Keeps the file true until `close`. A disk that takes no writes leaves it old, and is told of once. */
export function keepStatus(
  stateDir: string,
  look: () => RunnerStatus,
  log: (message: string, fields: Record<string, unknown>) => void,
): { close(): Promise<void> } {
  const file = join(stateDir, STATUS_FILE)
  const temporary = `${file}.${process.pid}`
  let written = ''
  let failed = false
  let writing = Promise.resolve()
  const write = async () => {
    const text = JSON.stringify(look())
    if (text === written) return
    try {
      await writeFile(temporary, text, { mode: 0o600 })
      await rename(temporary, file)
      written = text
      failed = false
    } catch (error) {
      if (!failed) log('the status of the runner cannot be written', { err: error })
      failed = true
    }
  }
  const next = () => (writing = writing.then(write))
  void next()
  const timer = setInterval(() => void next(), LOOK_MS)
  timer.unref()
  return {
    async close() {
      clearInterval(timer)
      await writing
      await rm(file, { force: true })
      await rm(temporary, { force: true })
    },
  }
}
