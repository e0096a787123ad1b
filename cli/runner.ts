/** `runyard runner enroll|start`: make this machine a runner, and be one. */
import { hostname } from 'node:os'
import { join } from 'node:path'
import { defaultDataDir, lockDir, makePrivateDir } from '../router/node/data-dir.ts'
import { claudeVersion, findClaude, INSTALL_HINT } from '../runner/claude-binary.ts'
import { enroll } from '../runner/enroll.ts'
import { IdentityError, loadIdentity } from '../runner/identity.ts'
import { localLogin } from '../runner/login.ts'
import { PolicyError, readPolicy } from '../runner/policy.ts'
import { SandboxError, type Wanted } from '../runner/sandbox.ts'
import { startRunner } from '../runner/start.ts'
import { CliError, EXIT } from './exit.ts'
import { createLog, out, say } from './output.ts'
import { onceAsked, untilSignal } from './signals.ts'

/** Tells a runner to take no new runs, and to end when those that are running have ended. */
export const DRAIN_SIGNAL = 'SIGUSR2'

/** Where a runner of this data directory keeps its identity, spools and config directories. */
export const runnerStateDir = (dataDir: string) => join(dataDir, 'runner')
export const defaultWorkspace = (dataDir: string) => join(dataDir, 'workspaces')
export const defaultPolicyFile = (dataDir: string) => join(runnerStateDir(dataDir), 'runner.toml')

export interface EnrollCommand {
  readonly dataDir: string
  readonly url: string
  readonly token: string
  readonly name?: string | undefined
  readonly pool?: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly claude?: string | undefined
  readonly force: boolean
  readonly json: boolean
}

export async function enrollCommand(command: EnrollCommand): Promise<number> {
  const claude = await findClaude({ explicit: command.claude, env: process.env, home: home() })
  const stateDir = runnerStateDir(command.dataDir)
  await makePrivateDir(command.dataDir)
  const identity = await enroll({
    url: command.url,
    token: command.token,
    name: command.name ?? machineName(),
    ...(command.pool === undefined ? {} : { pool: command.pool }),
    labels: command.labels,
    stateDir,
    cliVersion: claude === undefined ? null : ((await claudeVersion(claude)) ?? null),
    force: command.force,
  }).catch((error: unknown) => {
    throw explainedIdentity(error)
  })
  if (command.json) out(JSON.stringify({ event: 'enrolled', ...identity, state_dir: stateDir }))
  else {
    out(`enrolled as ${identity.runner_id} (${identity.name}) in pool ${identity.pool} of ${identity.url}`)
    out(claude === undefined ? `the Claude Code CLI is missing here: ${INSTALL_HINT}` : startHint(command.dataDir))
  }
  return EXIT.ok
}

/** What starts the machine that was enrolled there, as it can be pasted into a shell. */
export function startHint(dataDir: string): string {
  const where = dataDir === defaultDataDir() ? '' : ` --data-dir '${dataDir.replaceAll("'", "'\\''")}'`
  return `start it with \`runyard runner start${where}\``
}

export interface StartCommand {
  readonly dataDir: string
  readonly claude?: string | undefined
  readonly workspaces: readonly string[]
  readonly config?: string | undefined
  /** Instead of what the policy says. */
  readonly sandbox?: Wanted | undefined
  /** Providers may be at private addresses, whatever the policy says. */
  readonly allowPrivateBaseUrl: boolean
  /** Where the router is now, if not where it was at enrolment. */
  readonly url?: string | undefined
  readonly demo: boolean
  readonly json: boolean
  /** Ends when stdin does: the parent is gone. */
  readonly withParent: boolean
}

export async function startCommand(command: StartCommand): Promise<number> {
  const { dataDir } = command
  const stateDir = runnerStateDir(dataDir)
  const found = await loadIdentity(stateDir).catch((error: unknown) => {
    throw explainedIdentity(error)
  })
  if (!found)
    throw new CliError(
      EXIT.config,
      'this machine is not enrolled',
      'make a token with `runyard enrolment create` at the router, then `runyard runner enroll --url … --token …`',
    )
  const identity = { ...found, url: command.url ?? found.url }
  const claude = await requireClaude(command.claude)
  const { policy, source } = await readPolicy(command.config ?? defaultPolicyFile(dataDir), {
    required: command.config !== undefined,
  }).catch((error: unknown) => {
    throw error instanceof PolicyError ? new CliError(EXIT.config, error.message) : error
  })
  const flags = {
    ...(command.sandbox === undefined ? {} : { sandbox: command.sandbox }),
    ...(command.allowPrivateBaseUrl ? { allow_private_base_urls: true } : {}),
  }
  const flagged = Object.fromEntries(Object.keys(flags).map((key) => [key, 'flag' as const]))
  if (!command.demo && (await localLogin({ env: process.env, home: home() })).kind === 'none')
    say('this machine has no login for Claude: it takes only runs that the router gives a provider; --demo answers the others')
  // Before the lock, whose holder is who a `runner drain` signals: without a handler the signal would end it.
  const drainAsked = onceAsked(DRAIN_SIGNAL)
  const unlock = await lockDir(stateDir, 'runner').catch((error: unknown) => {
    throw new CliError(EXIT.unavailable, error instanceof Error ? error.message : String(error))
  })
  const log = createLog({ json: command.json, name: 'runner' })
  const workspaces = [...command.workspaces, ...policy.workspaces]
  try {
    const runner = await startRunner({
      stateDir,
      identity,
      claude,
      policy: { ...policy, ...flags },
      source: { ...source, keys: { ...source.keys, ...flagged } },
      workspaces: workspaces.length > 0 ? workspaces : [defaultWorkspace(dataDir)],
      demo: command.demo,
      hidden: [dataDir],
      env: process.env,
      home: home(),
      log: (level, message, fields) => log[level](fields, message),
    }).catch((error: unknown) => {
      if (error instanceof PolicyError) throw new CliError(EXIT.config, error.message)
      throw error instanceof SandboxError ? new CliError(EXIT.config, error.message, error.hint) : error
    })
    log.info({ sandbox: runner.sandbox.mode }, runner.sandbox.means)
    if (!command.withParent) {
      if (command.json)
        out(JSON.stringify({ event: 'ready', runner_id: identity.runnerId, url: identity.url, provider: runner.provider }))
      else
        say(
          `runner ${identity.runnerId} serves ${identity.url}${runner.provider === 'demo' ? ' with the DEMO model' : ''}; Ctrl-C stops`,
        )
    }
    const drained = drainAsked.then(() => {
      say('draining: no new runs; ends when those that are running have ended')
      return runner.drain()
    })
    const hopeless = await Promise.race([
      untilSignal(() => runner.killNow()),
      parentGone(command.withParent),
      runner.ended,
      drained,
    ])
    await runner.stop()
    const why = await runner.ended
    if (why !== undefined && hopeless === why)
      throw new CliError(EXIT.noPermission, why, 'was this runner revoked? enrol it anew with `runyard runner enroll --force`')
    return EXIT.ok
  } finally {
    await unlock()
  }
}

/** The CLI on this machine; throws with the line that installs it. */
export async function requireClaude(explicit: string | undefined): Promise<string> {
  const missing = (message: string) => new CliError(EXIT.unavailable, message, INSTALL_HINT)
  const found = await findClaude({ explicit, env: process.env, home: home() }).catch((error: unknown) => {
    throw missing(error instanceof Error ? error.message : String(error))
  })
  if (found === undefined) throw missing('the Claude Code CLI was not found on this machine')
  return found
}

function parentGone(watch: boolean): Promise<void> {
  return new Promise((resolve) => {
    if (!watch) return
    process.stdin.resume()
    process.stdin.once('close', resolve)
    process.stdin.once('end', resolve)
  })
}

function explainedIdentity(error: unknown): unknown {
  if (!(error instanceof IdentityError)) return error
  const exits = {
    exists: EXIT.config,
    broken: EXIT.config,
    invalid: EXIT.usage,
    unreachable: EXIT.unavailable,
    not_a_router: EXIT.config,
    refused: EXIT.noPermission,
    unavailable: EXIT.unavailable,
  }
  return new CliError(exits[error.problem], error.message)
}

export function machineName(): string {
  return (
    hostname()
      .replaceAll(/[^A-Za-z0-9._-]/g, '-')
      .replace(/^[^A-Za-z0-9]+/, '')
      .slice(0, 63) || 'local'
  )
}

export function home(): string {
  return process.env['HOME'] ?? '/'
}
