/**
 * From an offer to a CLI that is ready for its prompt, by the owner's rules: policy, directory, mentions, login,
 * environment. One that lives and was started with the very same is as good as a new one. Whatever is wrong is a `Fault`
 * here, before anything was promised to anybody.
 */
import { randomUUID } from 'node:crypto'
import type { Offer } from '../shared/frames.ts'
import type { SessionUse } from '../shared/run-spec.ts'
import { idsOf, keyOf, startCli, tidyConfigDir, type FundsOfCli, type Recipe } from './cli-start.ts'
import { fundsFor, type Funds } from './funds.ts'
import type { Prepared } from './held-run.ts'
import type { Machine } from './machine.ts'
import { mcpServersFor } from './mcp-servers.ts'
import { guardMentions } from './mentions.ts'
import { checkPolicy, withLimits } from './policy.ts'
import { SpawnQueue } from './spawns.ts'
import { trustOf } from './trust.ts'
import type { Resident } from './warm/resident.ts'
import type { WarmPool } from './warm/pool.ts'
import { Spares } from './warm/spares.ts'
import { Turn } from './warm/turn.ts'
import { discard, resolveCwd, resolveDirs, type Workspace } from './workspace.ts'

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
  const spares = new Spares(machine, spawns)
  const { policy, warm, inUse } = machine
  return async (offer, marker, signal) => {
    const { run, spec: wanted } = offer
    const log = (message: string, fields: Record<string, unknown>) => machine.log(message, { ...fields, run })
    const spec = withLimits(policy, wanted)
    checkPolicy(policy, spec)
    const treasury = { ...machine.treasury, allowPrivateBaseUrls: policy.allow_private_base_urls }
    const funds = await fundsFor({ ...offer, spec }, { ...treasury, log: (message, fields) => machine.log(message, fields) })
    const servers = mcpServersFor(policy.mcp_servers, spec.mcp_servers ?? [], machine.env)
    const session = sessionOfCli(spec.session)
    const holds = [inUse.hold([...idsOf(spec.session), ...idsOf(session)])]
    const leave = () => holds.forEach((release) => release())
    let workspace: Workspace | undefined
    let found: Resident | undefined
    let started: Resident | undefined
    try {
      const dirs = await resolveDirs({ ...machine, dirs: spec.add_dirs ?? [] })
      // Last, because it may make a folder.
      workspace = await resolveCwd({ ...spec, ...machine })
      const { cwd } = workspace
      holds.push(inUse.hold([cwd, ...dirs]))
      const trust = await trustOf(policy.trusted_workspaces, cwd, log)
      const recipe: Recipe = { spec: { ...spec, prompt: '' }, funds: fundsOfCli(funds), servers, dirs, trust }
      // A budget is the CLI's for all of its life: a second turn would find it used. And what is trusted may be edited meanwhile.
      const mayStay = policy.warm_idle_s > 0 && spec.max_budget_usd === undefined && trust === undefined
      const key = await keyOf(machine, recipe, { session, cwd })
      found = session.mode === 'resume' ? await atHome(warm, await warm.take(session.id, key, spec.tenant), cwd) : undefined
      if (session.mode === 'new') found = await spares.take(recipe, key)
      if (!found) started = await startCli(machine, spawns, recipe, { session, workspace, marker, signal, mayStay })
      const resident = (found ?? started)!
      if (found) {
        await tidyConfigDir(machine, recipe)
        if (found.cwd !== cwd) await discard(workspace)
      }
      if (session.mode === 'new') spares.learn(recipe, key, workspace)
      const prompt = await guardMentions(spec.prompt, resident.cwd, machine.roots, machine.closed)
      for (const grant of funds.kind === 'gateway' ? funds.grants : []) machine.gateway.told(spec.tenant, grant)
      const process = new Turn({
        resident,
        warm: found !== undefined,
        prompt,
        stay: mayStay && (found !== undefined || warm.adopt(resident)),
        purse: funds.kind === 'gateway' ? { ...funds.purse, session: resident.session } : undefined,
        replace: (dead, withdrawn) =>
          startCli(machine, spawns, recipe, {
            mayStay,
            session: found ? { mode: session.mode === 'new' ? 'new' : 'resume', id: dead.session } : session,
            workspace: { cwd: dead.cwd, created: false },
            // One that is not written down is known by the marker of its run.
            marker: mayStay ? randomUUID() : marker,
            signal: withdrawn,
          }),
        giveBack: (one) => warm.giveBack(one),
        log,
      })
      return {
        process,
        cwd: resident.cwd,
        ...(session.mode === 'new' && resident.session !== session.id ? { cliSession: resident.session } : {}),
        provider: funds.provider,
        maxLogBytes: Math.min(spec.max_log_bytes ?? Infinity, policy.max_log_mb * MIB),
        dispose: () => Promise.resolve(leave()),
      }
    } catch (error) {
      leave()
      if (found && session.mode === 'new') await spares.drop(found)
      else if (found) warm.giveBack(found)
      await started?.cli.cancel('kill')
      if (started) warm.giveBack(started)
      if (!found && workspace) await discard(workspace)
      throw error
    }
  }
}

/** The ids by which the CLI knows what is continued. */
function sessionOfCli(use: SessionUse): SessionUse {
  if (use.mode === 'new') return use
  if (use.mode === 'resume') return { mode: 'resume', id: use.cli ?? use.id }
  return { mode: 'fork', id: use.id, from: use.cli ?? use.from }
}

/** A session does not move; one that seems to is not that which lives here. */
async function atHome(warm: WarmPool, living: Resident | undefined, cwd: string): Promise<Resident | undefined> {
  if (living === undefined || living.cwd === cwd) return living
  await living.cli.cancel('kill')
  warm.giveBack(living)
  return undefined
}

/** Without what pays, which is a turn's. */
function fundsOfCli(funds: Funds): FundsOfCli {
  if (funds.kind === 'direct') return funds
  const { kind, env, retries } = funds
  return { kind, env, ...(retries === undefined ? {} : { retries }) }
}
