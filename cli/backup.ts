/** `runyard backup <file>`: a copy of the router's database, also while it runs. */
import { performance } from 'node:perf_hooks'
import { backup, BackupError } from '../router/node/backup.ts'
import { CliError, EXIT } from './exit.ts'
import { out, say } from './output.ts'

export interface BackupCommand {
  readonly dataDir: string
  readonly file: string
  readonly withKeys: boolean
  readonly json: boolean
}

const EXITS = { no_database: EXIT.config, damaged: EXIT.failed, target: EXIT.failed, disk_full: EXIT.unavailable }
/** Shorter ones are over before anybody has read what they are doing. */
const WORTH_SAYING_BYTES = 64 * 1_048_576

export async function backupCommand({ dataDir, file, withKeys, json }: BackupCommand): Promise<number> {
  const since = performance.now()
  const step = (what: string, bytes: number) => {
    if (bytes >= WORTH_SAYING_BYTES) say(`${what} ${mib(bytes)} …`)
  }
  const made = await backup({ dataDir, file, withKeys, step }).catch((error: unknown) => {
    throw error instanceof BackupError ? new CliError(EXITS[error.problem], error.message) : error
  })
  const ms = Math.round(performance.now() - since)
  const { bytes, keys } = made
  if (json) out(JSON.stringify({ event: 'backup', file, bytes, duration_ms: ms, schema: new Date(made.schema).toISOString(), keys }))
  else out(`${file}: ${mib(bytes)}, checked, in ${(ms / 1_000).toFixed(1)} s`)
  if (withKeys) say(`with its keys, whoever has these files can mint tokens and read every provider key: ${keys.join(', ')}`)
  else say('the keys are not in it: without master-key.json no provider key of it can be read, without signing-key.json no token is good')
  return EXIT.ok
}

function mib(bytes: number): string {
  return `${(bytes / 1_048_576).toFixed(1)} MiB`
}
