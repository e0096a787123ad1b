/**
 * From what is known of a run to a CLI that is ready for its first prompt, with all that belongs to the process alone: a
 * private folder, a seat at the gateway, a fresh working directory. What pays, and what it is asked, is the turn's.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, isAbsolute, join } from 'node:path'
import { Fault } from '../shared/faults.ts'
import type { RunSpec, SessionUse } from '../shared/run-spec.ts'
import { claudeEnv, type EnvParts } from './claude/env.ts'
import { configurationOf, type Launch } from './claude/launch.ts'
import { ClaudeProcess } from './claude/process.ts'
import { closedPaths, rootsAround } from './closed-folders.ts'
import { prepareConfigDir } from './config-dir.ts'
import type { Funds } from './funds.ts'
import type { Seat } from './gateway/gateway.ts'
import { linkLogin } from './login.ts'
import type { OwnServers } from './mcp-servers.ts'
import type { Machine } from './machine.ts'
import { visibleWorkspace } from './sandbox.ts'
import type { SpawnQueue } from './spawns.ts'
import type { Trust } from './trust.ts'
import { undo } from './undo.ts'
import type { Resident } from './warm/resident.ts'
import { realRoots, type Workspace } from './workspace.ts'

/** All that processes of one configuration have in common. */
export interface Recipe {
  /** Its prompt and its session are not read. */
  readonly spec: RunSpec
  readonly funds: FundsOfCli
  readonly servers: OwnServers
  readonly dirs: readonly string[]
  readonly trust: Trust | undefined
}

/** What of a run's funds a CLI sees. A spare is kept with it, so no key of a provider is in here. */
export type FundsOfCli = Pick<Extract<Funds, { kind: 'direct' }>, 'kind' | 'env' | 'credentialsFile'> | Pick<Extract<Funds, { kind: 'gateway' }>, 'kind' | 'env' | 'retries'>

export interface Start {
  /** By the CLI's own ids. */
  readonly session: SessionUse
  readonly workspace: Workspace
  readonly marker: string
  readonly signal: AbortSignal
  /** It may outlive the turn that it is started for. */
  readonly mayStay: boolean
  /** It is for nobody yet: it starts behind all others, and takes its fresh folder with it. */
  readonly isSpare?: boolean
}

/**
 * The key of the process that would be started. The working directory of a session that has its own, by its name, is left
 * out: one that is as fresh will do.
 */
export async function keyOf(machine: Machine, recipe: Recipe, { session, cwd }: { session: SessionUse; cwd: string }): Promise<string> {
  // Names that are nowhere else: they are taken out of it again.
  const [marker, folder, token] = [randomUUID(), randomUUID(), randomUUID()]
  const seat = { env: { ANTHROPIC_BASE_URL: machine.gateway.url, ANTHROPIC_API_KEY: token } }
  return key(await launchOf(machine, recipe, { session, cwd, marker, privateDir: join(machine.privateRoot, folder), seat }), seat)
}

export async function startCli(machine: Machine, spawns: SpawnQueue, recipe: Recipe, start: Start): Promise<Resident> {
  const { session, workspace, marker, signal, mayStay, isSpare = false } = start
  const { cwd } = workspace
  const { tenant } = recipe.spec
  mkdirSync(machine.privateRoot, { recursive: true, mode: 0o700 })
  const privateDir = mkdtempSync(join(machine.privateRoot, 'cli-'))
  const seat = recipe.funds.kind === 'gateway' ? machine.gateway.seat(tenant) : undefined
  const leave = machine.inUse.hold([...idsOf(session), cwd, ...recipe.dirs])
  const dispose = async () => {
    try {
      await seat?.leave()
      await rm(privateDir, { recursive: true, force: true })
      if (mayStay) await machine.records.remove(marker)
    } finally {
      leave()
    }
  }
  try {
    const isRecorded = mayStay && (await machine.records.write({ marker, ...(isSpare && workspace.created ? { folder: cwd } : {}) }))
    if (isSpare && !isRecorded) throw new Error('a spare that is not written down could be left behind')
    const launch = await launchOf(machine, recipe, { session, cwd, marker, privateDir, seat })
    const { cli, files } = await spawns.run(() => spawn(machine, launch, recipe, signal), signal, { later: isSpare })
    if (signal.aborted) {
      await cli.cancel('kill')
      throw new Fault('start_by', 'the offer was withdrawn')
    }
    return {
      cli,
      key: key({ ...launch, files }, seat),
      tenant,
      session: session.id,
      cwd,
      seat,
      marker,
      once: !isRecorded,
      dispose,
    }
  } catch (error) {
    await undo([dispose], machine)
    throw error
  }
}

/** The files of its pool as they are now: an older set would come after a newer one. */
async function spawn(machine: Machine, launch: Launch, recipe: Recipe, signal: AbortSignal) {
  const { files } = machine.config
  await tidyConfigDir(machine, recipe)
  return { cli: await ClaudeProcess.prepare({ ...launch, files }, signal), files }
}

/** What an earlier turn has put there is put right; a CLI that runs watches it. */
export async function tidyConfigDir(machine: Machine, { spec, funds }: Pick<Recipe, 'spec' | 'funds'>): Promise<void> {
  const configDir = join(machine.configRoot, spec.tenant)
  await prepareConfigDir(configDir, machine.config.files)
  if (funds.kind === 'direct' && funds.credentialsFile !== undefined) await linkLogin(funds.credentialsFile, configDir)
}

type Own = { session: SessionUse; cwd: string; marker: string; privateDir: string; seat: Pick<Seat, 'env'> | undefined }

async function launchOf(machine: Machine, { spec, funds, servers, dirs, trust }: Recipe, own: Own): Promise<Launch> {
  const { cwd, marker, privateDir, seat } = own
  const configDir = join(machine.configRoot, spec.tenant)
  const env = claudeEnv({ runner: machine.env, configDir, ...wayOut(funds, seat), allow: machine.policy.env_allow, marker })
  const credentialsFile = funds.kind === 'direct' ? funds.credentialsFile : undefined
  const prefix = machine.sandbox.prefix({
    cwd,
    workspace: visibleWorkspace(machine.roots, cwd),
    dirs,
    configDir,
    privateDir,
    home: machine.home,
    reads: [env['NODE_EXTRA_CA_CERTS'] ?? '', ...servers.reads].filter((path) => isAbsolute(path)),
    writes: credentialsFile === undefined ? [] : [credentialsFile],
  })
  return {
    claude: machine.sandbox.program,
    ...(prefix.length > 0 ? { prefix } : {}),
    spec: { ...spec, session: own.session },
    cwd,
    dirs,
    closed: await closedTo(machine, [cwd, ...dirs]),
    mcpServers: servers.entries,
    trust,
    configDir,
    files: machine.config.files,
    privateDir,
    env,
    marker,
    log: (message, fields) => machine.log(message, { ...fields, session: own.session.id }),
  }
}

function key(launch: Launch, seat: Pick<Seat, 'env'> | undefined): string {
  const isOwn = launch.spec.session.id === basename(launch.cwd)
  return configurationOf(launch, [...(isOwn ? [launch.cwd] : []), ...(seat ? [seat.env.ANTHROPIC_API_KEY] : [])])
}

/** Those whose transcripts are read or written. */
export function idsOf(session: SessionUse): string[] {
  return session.mode === 'fork' ? [session.id, session.from] : [session.id]
}

/** For the tools of a run in these folders. Under bwrap nothing of it is there. */
async function closedTo({ sandbox, roots, closed, configRoot, privateRoot }: Machine, folders: readonly string[]): Promise<string[]> {
  if (sandbox.mode === 'bwrap' || rootsAround(roots, closed).length === 0) return []
  return closedPaths({ roots, closed, folders, needed: await realRoots([configRoot, privateRoot]) })
}

/** Where the CLI sends its requests. */
function wayOut(funds: FundsOfCli, seat: Pick<Seat, 'env'> | undefined): Pick<EnvParts, 'provider' | 'gateway' | 'retries'> {
  if (funds.kind === 'direct') return funds.env === undefined ? {} : { provider: funds.env }
  const { env, retries } = funds
  return { provider: { ...env, ...seat?.env }, gateway: true, ...(retries === undefined ? {} : { retries }) }
}
