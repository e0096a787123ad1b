/**
 * `runyard runner status`: who the runner of this data directory is, whether it runs and is connected, and what its
 * owner's policy lets runs do. Of one that does not run it shows what would hold if it were started now.
 */
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { lockHolder } from '../router/node/data-dir.ts'
import { claudeVersion, findClaude } from '../runner/claude-binary.ts'
import { IdentityError, loadIdentity } from '../runner/identity.ts'
import { localLogin } from '../runner/login.ts'
import { PolicyError, readPolicy, shown, type Policy, type PolicySource } from '../runner/policy.ts'
import { detect, SandboxError } from '../runner/sandbox.ts'
import { readStatus, type RunnerStatus } from '../runner/status.ts'
import { CliError, EXIT } from './exit.ts'
import { bold, dim, out } from './output.ts'
import { defaultPolicyFile, defaultWorkspace, home, runnerStateDir } from './runner.ts'

export interface StatusCommand {
  readonly dataDir: string
  readonly config?: string | undefined
  readonly claude?: string | undefined
  readonly json: boolean
}

type InForce = Pick<RunnerStatus, 'login' | 'provider' | 'sandbox' | 'cli' | 'workspaces' | 'policy' | 'source'>
type Spool = { runs: number; bytes: number }

/** Exits 0 when it runs, 69 when it does not. */
export async function statusCommand(command: StatusCommand): Promise<number> {
  const stateDir = runnerStateDir(command.dataDir)
  const identity = await loadIdentity(stateDir).catch((error: unknown) => {
    if (!(error instanceof IdentityError)) throw error
    throw new CliError(EXIT.config, error.message, 'enrol anew with `runyard runner enroll --force`')
  })
  if (!identity)
    throw new CliError(
      EXIT.config,
      'this machine is not enrolled',
      '`runyard up` does it, or `runyard runner enroll --url … --token …`',
    )
  const pid = await lockHolder(stateDir, 'runner')
  const said = pid === undefined ? undefined : await readStatus(stateDir)
  // Of a process that was killed, or that has only just begun.
  const live = said?.pid === pid ? said : undefined
  const file = command.config ?? live?.source.file ?? defaultPolicyFile(command.dataDir)
  const read = await readPolicy(file, { required: command.config !== undefined }).catch((error: unknown) => {
    if (error instanceof PolicyError) return error
    throw error
  })
  if (!live && read instanceof PolicyError) throw new CliError(EXIT.config, read.message)
  const inForce = live ?? (await ifStarted(command, read as Exclude<typeof read, PolicyError>))
  const changed = live === undefined ? undefined : changeOf(live, read)
  const facts = {
    runner_id: identity.runnerId,
    name: identity.name,
    pool: identity.pool,
    url: live?.url ?? identity.url,
    running: pid !== undefined,
    pid: pid ?? null,
    started_at: live?.started_at ?? null,
    connected: live?.connected ?? null,
    draining: live?.draining ?? null,
    slots: live?.slots ?? inForce.policy.slots,
    busy: live?.busy ?? null,
    warm: live?.warm ?? null,
    ...without(inForce),
    spool: await spoolOf(stateDir),
    policy: { ...inForce.source, values: inForce.policy, ...(changed === undefined ? {} : { changed }) },
  }
  if (command.json) out(JSON.stringify(facts))
  else show(facts, command.dataDir)
  return pid === undefined ? EXIT.unavailable : EXIT.ok
}

const without = ({ login, provider, sandbox, cli, workspaces }: InForce) => ({ login, provider, sandbox, cli, workspaces })

async function ifStarted(
  { dataDir, claude: explicit }: StatusCommand,
  { policy, source }: { policy: Policy; source: PolicySource },
): Promise<InForce> {
  const env = process.env
  const path = (await findClaude({ explicit, env, home: home() }).catch(() => undefined)) ?? ''
  const { kind: login } = await localLogin({ env, home: home() })
  const sandbox = await detect(policy.sandbox, { env, claude: path || process.execPath }).catch((error: unknown) => {
    if (error instanceof SandboxError) return { mode: policy.sandbox, means: `does not work: ${error.message}` }
    throw error
  })
  return {
    login,
    provider: login === 'none' ? null : 'local',
    sandbox: { mode: sandbox.mode, means: sandbox.means },
    cli: { path, version: path === '' ? null : ((await claudeVersion(path)) ?? null) },
    workspaces: policy.workspaces.length > 0 ? policy.workspaces : [defaultWorkspace(dataDir)],
    policy: shown(policy),
    source,
  }
}

/** What the file says now that the process, which read it at its start, does not know. */
function changeOf({ policy, source }: RunnerStatus, read: { policy: Policy } | PolicyError): string | undefined {
  if (read instanceof PolicyError) return read.message
  const now = shown(read.policy)
  const keys = Object.keys(now) as (keyof Policy)[]
  const other = [...new Set([...keys, ...(Object.keys(policy) as (keyof Policy)[])])].filter(
    (key) => source.keys[key] !== 'flag' && !isDeepStrictEqual(now[key], policy[key]),
  )
  return other.length > 0 ? `${source.file} has other values of ${other.join(', ')}` : undefined
}

/** Runs that the router does not have all of, and what they take. */
async function spoolOf(stateDir: string): Promise<Spool> {
  const dir = join(stateDir, 'spool')
  const names = (await readdir(dir).catch(() => [])).filter((name) => name.endsWith('.spool'))
  // One that is gone by now is delivered.
  const sizes = await Promise.all(names.map((name) => stat(join(dir, name)).then(({ size }) => size, () => 0)))
  return { runs: names.length, bytes: sizes.reduce((sum, size) => sum + size, 0) }
}

function show(
  facts: Omit<InForce, 'policy' | 'source'> & {
    runner_id: string
    name: string
    pool: string
    url: string
    running: boolean
    pid: number | null
    started_at: string | null
    connected: boolean | null
    draining: boolean | null
    slots: number
    busy: number | null
    warm: RunnerStatus['warm'] | null
    spool: Spool
    policy: PolicySource & { values: Policy; changed?: string }
  },
  dataDir: string,
): void {
  const { pid, connected, draining, policy, spool, cli } = facts
  const row = (name: string, text: string) => out(`${name.padEnd(11)}${text}`)
  row('runner', `${bold(facts.runner_id)} (${facts.name}) in pool ${facts.pool}`)
  row('router', `${facts.url}${connected === null ? '' : connected ? ', connected' : `, ${bold('not connected')}`}`)
  const since = facts.started_at === null ? '' : ` since ${facts.started_at}`
  row('process', pid === null ? bold('does not run') : `${pid}${since}${draining ? ', draining' : ''}`)
  row('slots', facts.busy === null ? `${facts.slots}` : `${facts.busy} of ${facts.slots} busy`)
  if (facts.warm) row('warm', warmOf(facts.warm))
  row('sandbox', `${facts.sandbox.mode}: ${facts.sandbox.means}`)
  row('login', LOGINS[facts.provider === 'demo' ? 'demo' : facts.login])
  row('claude', cli.path === '' ? 'not found' : `${cli.path} ${cli.version ?? 'does not run'}`)
  for (const root of facts.workspaces) row('workspace', root)
  row('spool', `${spool.runs} ${spool.runs === 1 ? 'run' : 'runs'}, ${spool.bytes} bytes`)
  row('policy', `${policy.file}${policy.found ? '' : ' (not there: the defaults hold)'}`)
  if (policy.changed !== undefined) row('', bold(`${policy.changed}; restart the runner for it to hold`))
  const width = Math.max(...Object.keys(policy.keys).map((key) => key.length)) + 2
  for (const [key, from] of Object.entries(policy.keys)) {
    const value = JSON.stringify(policy.values[key as keyof Policy]) ?? 'none'
    out(`  ${key.padEnd(width)}${value}  ${dim(from === 'flag' ? 'by a flag' : from)}`)
  }
  if (pid === null) out(dim(`start it with \`runyard runner start\`; its state is in ${runnerStateDir(dataDir)}`))
}

function warmOf({ processes, spares, memory_bytes, budget_bytes }: RunnerStatus['warm']): string {
  const mib = (bytes: number) => Math.round(bytes / 1_048_576)
  return `${processes} for ${processes === 1 ? 'its session' : 'their sessions'}, ${spares} ${spares === 1 ? 'spare' : 'spares'}, ${mib(memory_bytes)} of ${mib(budget_bytes)} MiB`
}

const LOGINS = {
  env: 'from the environment of the runner',
  login: 'that of its user',
  none: 'none: only runs that the router gives a provider',
  demo: 'none: the demo model answers where the router gives no provider',
} as const
