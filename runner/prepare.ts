/**
 * From an offer to a CLI that is ready for its prompt, by the owner's rules: policy, directory, mentions, login,
 * environment. Whatever is wrong is a `Fault` here, before anything was promised to anybody.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { Fault } from '../shared/faults.ts'
import type { Offer } from '../shared/frames.ts'
import type { RunSpec } from '../shared/run-spec.ts'
import { claudeEnv, type EnvParts } from './claude/env.ts'
import { ClaudeProcess } from './claude/process.ts'
import type { Launch } from './claude/launch.ts'
import { closedPaths } from './closed-folders.ts'
import { prepareConfigDir } from './config-dir.ts'
import type { ConfigFiles } from './config-files.ts'
import { fundsFor, type Funds, type Treasury } from './funds.ts'
import type { Gateway, Seat } from './gateway/gateway.ts'
import { seated } from './gateway/seated.ts'
import type { CliProcess, Prepared } from './held-run.ts'
import type { InUse } from './in-use.ts'
import { linkLogin } from './login.ts'
import { mcpServersFor } from './mcp-servers.ts'
import { guardMentions } from './mentions.ts'
import { checkPolicy, withLimits, type Policy } from './policy.ts'
import { visibleWorkspace, type Sandbox } from './sandbox.ts'
import { SpawnQueue } from './spawns.ts'
import { trustOf } from './trust.ts'
import { discard, realRoots, resolveCwd, resolveDirs, type Workspace } from './workspace.ts'

export interface Machine {
  readonly sandbox: Sandbox
  readonly policy: Policy
  /** Absolute and real. */
  readonly roots: readonly string[]
  /** The runner's own folders, which no run opens. Real paths. */
  readonly closed: readonly string[]
  readonly inUse: InUse
  /** Config directories of the CLI live here, one for each tenant. */
  readonly configRoot: string
  /** What the pool has for the CLI. */
  readonly config: Pick<ConfigFiles, 'files'>
  /** Folders of single runs, for files that must not be in argv. */
  readonly privateRoot: string
  readonly treasury: Omit<Treasury, 'allowPrivateBaseUrls' | 'log'>
  readonly gateway: Gateway
  readonly env: NodeJS.ProcessEnv
  readonly home: string
  log(message: string, fields: Record<string, unknown>): void
}

const MIB = 1_048_576

type Prepare = (offer: Offer, marker: string, signal: AbortSignal) => Promise<Prepared>

/**
 * One preparation of a session at a time: one that was withdrawn takes its fresh folder away, which must not be the
 * folder that the next one has just found.
 */
export function preparer(machine: Machine): Prepare {
  const prepare = unordered(machine)
  const last = new Map<string, Promise<unknown>>()
  return (offer, marker, signal) => {
    const { id } = offer.spec.session
    const mine = (last.get(id) ?? Promise.resolve()).then(() => prepare(offer, marker, signal))
    const settled = mine.then(
      () => undefined,
      () => undefined,
    )
    last.set(id, settled)
    void settled.then(() => last.get(id) === settled && last.delete(id))
    return mine
  }
}

function unordered(machine: Machine): Prepare {
  const spawns = new SpawnQueue()
  return async (offer, marker, signal) => {
    const { run, spec: wanted } = offer
    const spec = withLimits(machine.policy, wanted)
    checkPolicy(machine.policy, spec)
    const funds = await fundsFor({ ...offer, spec }, {
      ...machine.treasury,
      allowPrivateBaseUrls: machine.policy.allow_private_base_urls,
      log: (message, fields) => machine.log(message, fields),
    })
    const { entries: mcpServers, reads } = mcpServersFor(machine.policy.mcp_servers, spec.mcp_servers ?? [], machine.env)
    const release = machine.inUse.hold(sessionsOf(spec))
    const { workspace, dirs } = await foldersOf(machine, spec).catch((error: unknown) => {
      release()
      throw error
    })
    const leave = machine.inUse.hold([workspace.cwd, ...dirs])
    const configDir = join(machine.configRoot, spec.tenant)
    let privateDir: string | undefined
    let seat: Seat | undefined
    const dispose = async () => {
      try {
        await seat?.leave()
        if (privateDir !== undefined) await rm(privateDir, { recursive: true, force: true })
      } finally {
        release()
        leave()
      }
    }
    try {
      await mkdir(machine.privateRoot, { recursive: true, mode: 0o700 })
      privateDir = await mkdtemp(join(machine.privateRoot, `${run}-`))
      seat = takeSeat(machine.gateway, funds)
      const credentialsFile = funds.kind === 'direct' ? funds.credentialsFile : undefined
      const env = claudeEnv({
        runner: machine.env,
        configDir,
        ...wayOut(funds, seat),
        allow: machine.policy.env_allow,
        marker,
      })
      const prefix = machine.sandbox.prefix({
        cwd: workspace.cwd,
        workspace: visibleWorkspace(machine.roots, workspace.cwd),
        dirs,
        configDir,
        privateDir,
        home: machine.home,
        reads: [env['NODE_EXTRA_CA_CERTS'] ?? '', ...reads].filter((path) => isAbsolute(path)),
        writes: credentialsFile === undefined ? [] : [credentialsFile],
      })
      const launch: Launch = {
        claude: machine.sandbox.program,
        ...(prefix.length > 0 ? { prefix } : {}),
        spec,
        cwd: workspace.cwd,
        dirs,
        closed: await closedTo(machine, [workspace.cwd, ...dirs]),
        mcpServers,
        trust: await trustOf(machine.policy.trusted_workspaces, workspace.cwd, (message, fields) =>
          machine.log(message, { ...fields, run }),
        ),
        configDir,
        privateDir,
        env,
        marker,
        log: (message, fields) => machine.log(message, { ...fields, run }),
      }
      const start = async () => {
        // As they are now: an older set would come after a newer one.
        const { files } = machine.config
        await prepareConfigDir(configDir, files)
        if (credentialsFile !== undefined) await linkLogin(credentialsFile, configDir)
        return ClaudeProcess.prepare({ ...launch, files }, signal)
      }
      const prompt = await guardMentions(spec.prompt, workspace.cwd, machine.roots, machine.closed)
      const cli = await spawns.run(start, signal)
      const process = oneTurn(cli, prompt)
      if (signal.aborted) {
        await process.cancel('kill')
        throw new Fault('start_by', 'the offer was withdrawn')
      }
      const maxLogBytes = Math.min(spec.max_log_bytes ?? Infinity, machine.policy.max_log_mb * MIB)
      return { process: seat ? seated(process, seat) : process, cwd: workspace.cwd, provider: funds.provider, maxLogBytes, dispose }
    } catch (error) {
      await dispose()
      await discard(workspace)
      throw error
    }
  }
}

/** A process for the one turn that it was started for. */
function oneTurn(cli: ClaudeProcess, prompt: string): CliProcess {
  return {
    cliVersion: cli.cliVersion,
    turn: (sink) => cli.turn(prompt, sink),
    cancel: (mode) => cli.cancel(mode),
    pause: () => cli.pause(),
    resume: () => cli.resume(),
  }
}

/** Those whose transcripts the run reads or writes. */
function sessionsOf({ session }: RunSpec): string[] {
  return session.mode === 'fork' ? [session.id, session.from] : [session.id]
}

async function foldersOf({ roots, closed }: Machine, spec: RunSpec): Promise<{ workspace: Workspace; dirs: string[] }> {
  const dirs = await resolveDirs({ roots, closed, dirs: spec.add_dirs ?? [] })
  // Last, because it may make a folder.
  return { workspace: await resolveCwd({ ...spec, roots, closed }), dirs }
}

/** For the tools of a run in these folders. Under bwrap nothing of it is there. */
async function closedTo({ sandbox, roots, closed, configRoot, privateRoot }: Machine, folders: readonly string[]): Promise<string[]> {
  if (sandbox.mode === 'bwrap') return []
  return closedPaths({ roots, closed, folders, needed: await realRoots([configRoot, privateRoot]) })
}

function takeSeat(gateway: Gateway, funds: Funds): Seat | undefined {
  if (funds.kind === 'direct') return undefined
  for (const grant of funds.grants) gateway.told(funds.purse.tenant, grant)
  return gateway.seat(funds.purse)
}

/** Where the CLI sends its requests. */
function wayOut(funds: Funds, seat: Seat | undefined): Pick<EnvParts, 'provider' | 'gateway' | 'retries'> {
  if (funds.kind === 'direct') return funds.env === undefined ? {} : { provider: funds.env }
  const { env, retries } = funds
  return { provider: { ...env, ...seat?.env }, gateway: true, ...(retries === undefined ? {} : { retries }) }
}
