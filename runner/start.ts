/**
 * The runner as a process: everything it owns on this machine, put together, until it is told to stop.
 *
 * Stop means: no new runs, a moment for those that are nearly done, the cancel ladder for the rest, and their endings
 * delivered if the router still listens. What could not be delivered waits in the spool for the next start.
 */
import { mkdir, realpath, rm, stat } from 'node:fs/promises'
import { statfsSync } from 'node:fs'
import { loadavg, platform, release } from 'node:os'
import { join } from 'node:path'
import type { LocalProvider } from '../shared/frames.ts'
import { GRACE_MS } from '../shared/limits.ts'
import { VERSION } from '../shared/version.ts'
import { Agent } from './agent.ts'
import { claudeVersion } from './claude-binary.ts'
import { rootsAround } from './closed-folders.ts'
import { spawner } from './claude/child.ts'
import { sweep } from './claude/sweep.ts'
import { sweepNow } from './claude/sweep-now.ts'
import { systemClock } from './clock.ts'
import { ConfigFiles } from './config-files.ts'
import { startDemoModel } from './demo/model.ts'
import { startGateway } from './gateway/gateway.ts'
import { loadSealingKey, type Identity } from './identity.ts'
import { InUse } from './in-use.ts'
import { Link, type LinkEvents } from './link.ts'
import { localLogin, type LocalLogin } from './login.ts'
import { holdsValues, missingVariables } from './mcp-servers.ts'
import { PolicyError, shown, viewOf, type Policy, type PolicySource } from './policy.ts'
import { preparer } from './prepare.ts'
import { detect, type Sandbox } from './sandbox.ts'
import { keepStatus } from './status.ts'
import { memoryOf } from './warm/memory.ts'
import { WarmPool } from './warm/pool.ts'
import { WarmRecords } from './warm/record.ts'
import { discard } from './workspace.ts'
import { keepSwept } from './workspace-sweep.ts'

/** SIGTERM must be over in 10 s: this, 4 s of the ladder from SIGTERM on with its sweep, and the delivery. */
const DRAIN_MS = 2_000
const DELIVER_MS = 2_000
const POLL_MS = 20
const MIB = 1_048_576

export interface RunnerOptions {
  readonly stateDir: string
  readonly identity: Identity
  readonly claude: string
  readonly policy: Policy
  /** Where the policy comes from, for `runyard runner status`. */
  readonly source: PolicySource
  readonly workspaces: readonly string[]
  /** Answer from the scripted model when the machine has no login of its own. */
  readonly demo: boolean
  /** Folders that no workspace opens to a sandboxed run, besides `stateDir`. */
  readonly hidden?: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly home: string
  readonly log: LinkEvents['log']
}

export interface RunningRunner {
  readonly provider: LocalProvider | null
  readonly sandbox: Sandbox
  /** Resolves when the link has ended: undefined after `stop`, or why dialling on has no point. */
  readonly ended: Promise<string | undefined>
  /** Takes no new runs. Resolves when those that are running have ended and the router has all of them, or has given them up. */
  drain(): Promise<void>
  stop(): Promise<void>
  /** For a process that exits at once: kills what it can without waiting. */
  killNow(): void
}

/** Throws a `SandboxError` or a `PolicyError` when what the owner wants cannot be had here. */
export async function startRunner(options: RunnerOptions): Promise<RunningRunner> {
  const { stateDir, policy, log, env } = options
  // While this process is small, and before anybody waits for it.
  void spawner.ready().catch((error: unknown) => log('warn', 'the process that spawns CLIs does not start yet', { err: error }))
  await lookAtServers(options)
  const spoolDir = join(stateDir, 'spool')
  const privateRoot = join(stateDir, 'runs')
  for (const dir of [spoolDir, join(stateDir, 'config'), ...options.workspaces]) await mkdir(dir, { recursive: true, mode: 0o700 })
  const roots = await Promise.all(options.workspaces.map((dir) => realpath(dir)))
  const warn = (message: string, fields: Record<string, unknown>) => log('warn', message, fields)
  const clear = (marker: string, unsure?: () => void) =>
    sweep(marker, [], () => {
      warn('some processes of an earlier run may be left', { marker })
      unsure?.()
    })

  const hidden = [stateDir, ...(options.hidden ?? [])]
  const sandbox = await detect(policy.sandbox, { env, claude: options.claude, hidden })
  const closed = await Promise.all(hidden.map((dir) => realpath(dir)))
  if (sandbox.mode !== 'bwrap') {
    for (const root of rootsAround(roots, closed)) log('warn', 'a workspace has the runner in it: commands of its runs can read its keys', { root })
  }
  const own = await localLogin({ env, home: options.home })
  let login: LocalLogin = own
  let provider: LocalProvider | null = login.kind === 'none' ? null : 'local'
  let closeDemo: () => Promise<void> = () => Promise.resolve()
  if (login.kind === 'none' && options.demo) {
    const demo = await startDemoModel()
    login = { kind: 'env', env: { ANTHROPIC_BASE_URL: demo.url, ANTHROPIC_API_KEY: demo.token } }
    provider = 'demo'
    closeDemo = () => demo.close()
  }

  const cliVersion = (await claudeVersion(options.claude)) ?? null
  const sealingKey = await loadSealingKey(stateDir)
  const gateway = await startGateway({ env, clock: systemClock, report: (report) => agent.report(report), log: warn })
  const inUse = new InUse()
  const records = new WarmRecords(stateDir, warn)
  const limits = { idleMs: policy.warm_idle_s * 1_000, budgetBytes: policy.warm_memory_mb * MIB, spares: policy.spares }
  const warm = new WarmPool({ clock: systemClock, limits, memoryOf, log: warn })
  const config = new ConfigFiles({ stateDir, allowed: policy.config_files, changed: () => warm.retire(() => true), log: warn })
  const agent: Agent = new Agent({
    clock: systemClock,
    spoolDir,
    slots: policy.slots,
    labels: policy.labels,
    provider,
    policy: viewOf(policy, sandbox.mode),
    config,
    cliVersion,
    os: `${platform()} ${release()}`,
    prepare: preparer({
      sandbox,
      policy,
      roots,
      closed,
      inUse,
      configRoot: join(stateDir, 'config'),
      config,
      privateRoot,
      treasury: { provider, login, sealingKey },
      gateway,
      warm,
      records,
      env,
      home: options.home,
      log: warn,
    }),
    sweep: clear,
    diskFree: () => {
      const { bavail, bsize } = statfsSync(spoolDir)
      return bavail * bsize
    },
    load: () => loadavg()[0] ?? 0,
    log: warn,
  })
  await endLeftBehind(records, clear)
  await agent.recover()
  // Settings, MCP servers and temporary files of the runs of a process that was killed; nobody else takes them away.
  await rm(privateRoot, { recursive: true, force: true })
  const link = new Link(options.identity, agent, { log })
  const startedAt = new Date().toISOString()
  const status = keepStatus(
    stateDir,
    () => ({
      pid: process.pid,
      started_at: startedAt,
      runner_id: options.identity.runnerId,
      url: options.identity.url,
      connected: link.connected,
      draining: agent.draining,
      slots: policy.slots,
      busy: agent.active,
      warm: warm.view(),
      login: own.kind,
      provider,
      sandbox: { mode: sandbox.mode, means: sandbox.means },
      agent_version: VERSION,
      cli: { path: options.claude, version: cliVersion },
      workspaces: roots,
      policy: shown(policy),
      source: options.source,
    }),
    warn,
  )
  const cleaning = keepSwept(
    { roots, configRoot: join(stateDir, 'config'), days: policy.workspace_days, inUse, log: (message, fields) => log('info', message, fields) },
    () => systemClock.wall(),
  )
  let over = false
  const ended = link.run().finally(() => (over = true))

  const drain = async () => {
    agent.drain()
    warm.drain()
    await until(() => agent.active === 0 || over, Infinity)
    // By then a router that did not come back has given them up.
    await until(() => agent.idle || over, GRACE_MS)
  }
  const stop = async () => {
    over = true
    agent.drain()
    warm.drain()
    await until(() => agent.active === 0, DRAIN_MS)
    await agent.stop()
    // An offer that was being prepared takes a moment to be undone.
    await until(() => agent.active === 0, DELIVER_MS)
    if (link.connected) await until(() => agent.idle, DELIVER_MS)
    link.stop()
    await ended
    await agent.close()
    await warm.close()
    // The folder of a run that was forgotten just now may still be there.
    await rm(privateRoot, { recursive: true, force: true })
    await cleaning.close()
    await gateway.close()
    await status.close()
    await closeDemo()
  }
  let stopping: Promise<void> | undefined
  return { killNow: () => sweepNow([...agent.markers, ...records.markers]), provider, sandbox, ended, drain, stop: () => (stopping ??= stop()) }
}

/** A server whose variable is missing would only fail when a run needs it, and others may be reading the secrets of one. */
async function lookAtServers({ policy, source, env, log }: RunnerOptions): Promise<void> {
  const [gone] = missingVariables(policy.mcp_servers, env)
  if (gone) throw new PolicyError(`${source.file}: mcp_servers.${gone.server}: this runner's environment has no variable ${gone.variable}`)
  if (!source.found || !holdsValues(policy.mcp_servers)) return
  const { mode } = await stat(source.file)
  if ((mode & 0o077) !== 0) log('warn', 'a file with values for MCP servers can be read by others; chmod 600 it', { file: source.file })
}

/** Processes that waited for a turn when an earlier process of this runner was killed. */
async function endLeftBehind(records: WarmRecords, clear: (marker: string, unsure: () => void) => Promise<unknown>): Promise<void> {
  const left = await records.leftBehind()
  await Promise.all(
    left.map(async ({ marker, folder }) => {
      let doubts = 0
      await clear(marker, () => void doubts++)
      if (folder !== undefined) await discard({ cwd: folder, created: true })
      // The next start looks again for what it could not be sure of.
      if (doubts === 0) await records.remove(marker)
    }),
  )
}

async function until(done: () => boolean, withinMs: number): Promise<void> {
  const end = performance.now() + withinMs
  while (!done() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
}
