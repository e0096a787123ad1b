/** `npm run edge`: the router's other host on a machine of one's own, found by clients and runners like `runyard router`. */
import { join } from 'node:path'
import { CliError, EXIT } from '../cli/exit.ts'
import { createLog, dim, say } from '../cli/output.ts'
import { greet, printReady } from '../cli/router.ts'
import { untilSignal } from '../cli/signals.ts'
import { loadKeys, lockDir, makePrivateDir, readClientFile, type ClientFile, workerSecrets, writeClientFile } from '../router/node/data-dir.ts'
import type { Keep } from '../router/hub/retention.ts'
import { ownNames } from './addresses.ts'
import { currentBundle, WRANGLER } from './bundle.ts'
import { localToken } from './tokens.ts'
import { startWorkerd, type RunningWorkerd } from './workerd.ts'
import { cronMinutes, readWrangler } from './wrangler.ts'

export interface EdgeCommand {
  readonly host: string
  readonly port: number
  readonly dataDir: string
  readonly publicUrl?: string | undefined
  readonly allowedHosts: readonly string[]
  readonly corsOrigins: readonly string[]
  readonly timeoutS: number
  readonly keep: Keep
  readonly libsqlUrl?: string | undefined
  readonly libsqlAuthToken?: string | undefined
  readonly json: boolean
}

const DAY_MS = 86_400_000
const STOP_MS = 2_000
const ANSWER_MS = 15_000

export async function edgeCommand(command: EdgeCommand): Promise<number> {
  const { dataDir, json } = command
  if (process.platform === 'win32') throw new CliError(EXIT.unavailable, 'the edge needs a POSIX shell: Linux or macOS')
  await makePrivateDir(dataDir)
  const unlock = await lockDir(dataDir, 'router').catch((error: unknown) => {
    throw new CliError(EXIT.unavailable, error instanceof Error ? error.message : String(error))
  })
  let worker: RunningWorkerd | undefined
  try {
    const keys = await loadKeys(dataDir)
    const crons = await cronEntries()
    worker = await start(command)
    await answers(worker)
    const kept = await readClientFile(dataDir)
    const client: ClientFile = {
      url: worker.url,
      token: await localToken(keys, 'app', kept?.token, Date.now()),
      admin_token: await localToken(keys, 'admin', kept?.admin_token, Date.now()),
    }
    await writeClientFile(dataDir, client)
    // Before anybody can read that it is ready, and ask it to stop.
    const asked = untilSignal()
    if (json) printReady(client, dataDir)
    else greet('Runyard edge', client, command)
    follow(worker, crons, json)

    const ended = await Promise.race([asked, worker.exited])
    if (typeof ended === 'number') throw new CliError(EXIT.failed, died(`workerd ended with ${ended} by itself`, worker))
    say('stopping; clients and runners will resume')
    return EXIT.ok
  } finally {
    await worker?.stop(STOP_MS)
    await unlock()
  }
}

async function start(command: EdgeCommand): Promise<RunningWorkerd> {
  const { dataDir, host, port, json } = command
  const bundle = await currentBundle()
  const vars = { ...varsOf(command), ...(await workerSecrets(dataDir)) }
  const log = createLog({ json, name: 'workerd' })
  // A Worker's own log is JSON already; what is not is of workerd.
  const onLine = (line: string) => (!json || line.startsWith('{') ? say(dim(line)) : log.info({}, line))
  try {
    return await startWorkerd({ bundle, wrangler: WRANGLER, dir: join(dataDir, 'edge'), host, port, vars, onLine })
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    if (!/address already in use/i.test(message)) throw error
    const hint = 'stop what listens there, or choose with --port (0: any)'
    throw new CliError(EXIT.unavailable, `port ${port} on ${host} is in use`, hint)
  }
}

function varsOf(command: EdgeCommand): Record<string, string> {
  const { host, publicUrl, allowedHosts, corsOrigins, timeoutS, keep, libsqlUrl, libsqlAuthToken } = command
  return {
    PUBLIC_URL: publicUrl ?? '',
    ALLOWED_HOSTS: [...allowedHosts, ...ownNames(host)].join(','),
    CORS_ORIGINS: corsOrigins.join(','),
    TIMEOUT_S: String(timeoutS),
    KEEP_DAYS: String(keep.ageMs / DAY_MS),
    KEEP_BYTES: String(keep.bytes),
    ...(libsqlUrl === undefined ? {} : { LIBSQL_URL: libsqlUrl }),
    ...(libsqlUrl === undefined || libsqlAuthToken === undefined ? {} : { LIBSQL_AUTH_TOKEN: libsqlAuthToken }),
  }
}

/** The first request makes the tables; a Worker that listens may still be unable to do anything. */
async function answers(worker: RunningWorkerd): Promise<void> {
  const { status } = await fetch(`${worker.url}/healthz`, { signal: AbortSignal.timeout(ANSWER_MS) })
  if (status !== 200) throw new CliError(EXIT.unavailable, died(`the Worker answers with ${status}`, worker))
}

function died(what: string, { lines }: RunningWorkerd): string {
  return [what, ...lines].join('\n  ')
}

async function cronEntries(): Promise<{ entry: string; minutes: number }[]> {
  const { triggers } = await readWrangler(WRANGLER)
  return triggers.crons.map((entry) => {
    const minutes = cronMinutes(entry)
    if (minutes === undefined) throw new CliError(EXIT.config, `wrangler.toml: the edge cannot follow the cron entry ${entry}`)
    return { entry, minutes }
  })
}

function follow(worker: RunningWorkerd, crons: readonly { entry: string; minutes: number }[], json: boolean): void {
  const log = createLog({ json, name: 'edge' })
  for (const { entry, minutes } of crons) {
    const failed = (error: unknown) => log.warn({ err: error, cron: entry }, 'housekeeping failed')
    setInterval(() => void worker.cron(entry).catch(failed), minutes * 60_000).unref()
  }
}
