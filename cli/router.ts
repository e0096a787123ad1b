/** `runyard router`: the router alone, for runners on other machines. Also the first half of `runyard up`. */
import { ConfigError } from '../router/admin/apply-config.ts'
import { admit } from '../router/guard/authenticate.ts'
import { mintToken } from '../router/guard/mint.ts'
import { readClientFile, writeClientFile, type ClientFile } from '../router/node/data-dir.ts'
import { keepHeapSmall } from '../router/node/heap.ts'
import { startRouter, type RouterOptions, type RunningRouter } from '../router/node/server.ts'
import type { Log } from '../router/ports.ts'
import { Fault } from '../shared/faults.ts'
import { CliError, EXIT } from './exit.ts'
import { bold, createLog, dim, out, say } from './output.ts'
import { untilSignal } from './signals.ts'

export interface RouterCommand extends Omit<RouterOptions, 'log'> {
  readonly json: boolean
}

/** Tokens for the person at this machine: `up` and `router` print them, and clients here find them. */
export const TENANT = 'default'
export const RENEW_BEFORE_MS = 86_400_000

export async function routerCommand(command: RouterCommand): Promise<number> {
  const log = createLog({ json: command.json, name: 'router' })
  const { router, client } = await openRouter(command, log)
  if (command.json) printReady(client, command.dataDir)
  else greet('Runyard router', client, command)
  await untilSignal()
  say('stopping; clients and runners will resume')
  await router.close()
  return EXIT.ok
}

/** Starts the router and makes sure that this machine has its two tokens. */
export async function openRouter(command: RouterCommand, log: Log): Promise<{ router: RunningRouter; client: ClientFile }> {
  keepHeapSmall()
  const router = await startRouter({ ...command, log }).catch((error: unknown) => {
    throw explained(error, command)
  })
  const kept = await readClientFile(command.dataDir)
  const client: ClientFile = {
    url: router.url,
    token: await stillGood(router, kept?.token, 'app'),
    admin_token: await stillGood(router, kept?.admin_token, 'admin'),
  }
  await writeClientFile(command.dataDir, client)
  return { router, client }
}

/** What a person needs next. */
export function greet(
  what: string,
  client: ClientFile,
  { dataDir, publicUrl }: Pick<RouterCommand, 'dataDir' | 'publicUrl'>,
): void {
  out(`${bold(what)} is ready at ${client.url}`)
  out(`  app token    ${client.token}`)
  out(`  admin token  ${dim(`in ${dataDir}/client.json (0600)`)}`)
  out('')
  out('Add a runner: make an enrolment token here, use it there.')
  out('  runyard enrolment create')
  out(
    `  curl -s -X POST ${client.url}/admin/v1/enrolment-tokens -H "authorization: Bearer $ADMIN_TOKEN" -H 'content-type: application/json' -d '{}'`,
  )
  out(`  runyard runner enroll --url ${publicUrl ?? client.url} --token <token> && runyard runner start`)
}

export function printReady(client: ClientFile, dataDir: string): void {
  out(
    JSON.stringify({ event: 'ready', url: client.url, token: client.token, admin_token: client.admin_token, data_dir: dataDir }),
  )
}

/** The token of the last start, so that a restart does not break what people configured; a new one when it is nearly over. */
async function stillGood({ deps }: RunningRouter, token: string | undefined, kind: 'app' | 'admin'): Promise<string> {
  if (token !== undefined) {
    try {
      const { who } = await admit(deps, { kind: 'token', token })
      if (who.kind === kind && who.tenant === TENANT && who.expiresAt > deps.platform.now() + RENEW_BEFORE_MS) return token
    } catch {
      // Of another key, revoked or expired: a new one is made.
    }
  }
  return (await mintToken(deps, { kind, tenant: TENANT, subject: kind === 'admin' ? 'owner' : 'local-app' })).token
}

function explained(error: unknown, { host, port, dataDir }: RouterCommand): unknown {
  if (error instanceof ConfigError)
    return new CliError(EXIT.config, error.message, '`runyard config check <file>` looks at a file without a router')
  if (error instanceof Error && error.message.includes('is in use by process'))
    return new CliError(EXIT.unavailable, error.message)
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof Fault && cause.code === 'storage') {
      return new CliError(
        EXIT.unavailable,
        `the database in ${dataDir} takes no writes: locked by another process, or the disk is full`,
        '`runyard doctor` looks for the reason',
      )
    }
  }
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'EADDRINUSE')
    return new CliError(
      EXIT.unavailable,
      `port ${port} on ${host} is in use`,
      'stop what listens there, or choose with --port (0: any)',
    )
  if (code === 'EACCES')
    return new CliError(EXIT.noPermission, `no permission to listen on ${host}:${port}`, 'choose a port above 1023 with --port')
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new CliError(EXIT.config, `${host} is not an address of this machine`)
  return error
}
