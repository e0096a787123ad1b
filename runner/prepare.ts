/**
 * From an offer to a CLI that is ready for its prompt, by the owner's rules: policy, directory, mentions, login,
 * environment. One that lives and was started with the very same is as good as a new one. Whatever is wrong is a `Fault`
 * here, before anything was promised to anybody.
 */
import { randomUUID } from 'node:crypto'
import type { Offer } from '../shared/frames.ts'
import type { RunSpec, SessionUse } from '../shared/run-spec.ts'
import { idsOf, keyOf, startCli, tidyConfigDir, type FundsOfCli, type Recipe } from './cli-start.ts'
import { fundsFor, type Funds } from './funds.ts'
import type { Prepared } from './held-run.ts'
import type { Machine } from './machine.ts'
import { mcpServersFor, type OwnServers } from './mcp-servers.ts'
import { guardMentions } from './mentions.ts'
import { checkPolicy, withLimits } from './policy.ts'
import { SpawnQueue } from './spawns.ts'
import { trustOf } from './trust.ts'
import { undo } from './undo.ts'
import type { Resident } from './warm/resident.ts'
import type { WarmPool } from './warm/pool.ts'
import { Spares } from './warm/spares.ts'
import { Turn, type TurnParts } from './warm/turn.ts'
import { discard, resolveCwd, resolveDirs } from './workspace.ts'

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
  const { policy, warm } = machine
  return async (offer, marker, signal) => {
    const order = await orderOf(machine, offer)
    const { spec, session } = order
    const isNew = session.mode === 'new'
    const holds = [machine.inUse.hold([...idsOf(spec.session), ...idsOf(session)])]
    const leave = () => holds.forEach((release) => release())
    /** How each step is undone; the last that was done comes first. */
    const made: (() => Promise<void> | void)[] = []
    try {
      const dirs = await resolveDirs({ ...machine, dirs: spec.add_dirs ?? [] })
      // Last, because it may make a folder.
      const workspace = await resolveCwd({ ...spec, ...machine })
      const { cwd } = workspace
      made.unshift(() => discard(workspace))
      holds.push(machine.inUse.hold([cwd, ...dirs]))
      const trust = await trustOf(policy.trusted_workspaces, cwd, order.log)
      const recipe: Recipe = { spec: { ...spec, prompt: '' }, funds: fundsOfCli(order.funds), servers: order.servers, dirs, trust }
      // A budget is the CLI's for all of its life: a second turn would find it used. And what is trusted may be edited meanwhile.
      const mayStay = policy.warm_idle_s > 0 && spec.max_budget_usd === undefined && trust === undefined
      const key = await keyOf(machine, recipe, { session, cwd })
      const found = isNew ? await spares.take(recipe, key) : await livingOf(warm, order, key, cwd)
      if (found) {
        made.unshift(() => (isNew ? spares.drop(found) : warm.giveBack(found)))
        await tidyConfigDir(machine, recipe)
        if (found.cwd !== cwd) await discard(workspace)
      }
      const resident = found ?? (await startCli(machine, spawns, recipe, { session, workspace, marker, signal, mayStay }))
      if (!found) made.unshift(() => resident.cli.cancel('kill').then(() => warm.giveBack(resident)))
      if (isNew) spares.learn(recipe, key, workspace)
      const prompt = await guardMentions(spec.prompt, resident.cwd, machine.roots, machine.closed)
      const process = turnOf(machine, order, {
        resident,
        prompt,
        warm: found !== undefined,
        stay: mayStay && (found !== undefined || warm.adopt(resident)),
        replace: (dead, withdrawn) =>
          startCli(machine, spawns, recipe, {
            mayStay,
            session: found ? { mode: isNew ? 'new' : 'resume', id: dead.session } : session,
            workspace: { cwd: dead.cwd, created: false },
            // One that is not written down is known by the marker of its run.
            marker: mayStay ? randomUUID() : marker,
            signal: withdrawn,
          }),
      })
      return {
        process,
        cwd: resident.cwd,
        ...(isNew && resident.session !== session.id ? { cliSession: resident.session } : {}),
        provider: order.funds.provider,
        maxLogBytes: Math.min(spec.max_log_bytes ?? Infinity, policy.max_log_mb * MIB),
        dispose: () => Promise.resolve(leave()),
      }
    } catch (error) {
      leave()
      await undo(made, order)
      throw error
    }
  }
}

/** What a run asks for, by the owner's rules. */
interface Order {
  readonly spec: RunSpec
  readonly funds: Funds
  readonly servers: OwnServers
  /** By the CLI's own ids. */
  readonly session: SessionUse
  readonly log: (message: string, fields: Record<string, unknown>) => void
}

async function orderOf(machine: Machine, offer: Offer): Promise<Order> {
  const { policy, env } = machine
  const spec = withLimits(policy, offer.spec)
  checkPolicy(policy, spec)
  const treasury = { ...machine.treasury, allowPrivateBaseUrls: policy.allow_private_base_urls }
  const funds = await fundsFor({ ...offer, spec }, { ...treasury, log: (message, fields) => machine.log(message, fields) })
  const servers = mcpServersFor(policy.mcp_servers, spec.mcp_servers ?? [], env)
  const log = (message: string, fields: Record<string, unknown>) => machine.log(message, { ...fields, run: offer.run })
  return { spec, funds, servers, session: sessionOfCli(spec.session), log }
}

type OwnParts = Pick<TurnParts, 'resident' | 'prompt' | 'warm' | 'stay' | 'replace'>

function turnOf({ gateway, warm }: Machine, { spec, funds, log }: Order, parts: OwnParts): Turn {
  const giveBack = (one: Resident) => warm.giveBack(one)
  if (funds.kind === 'direct') return new Turn({ ...parts, giveBack, log })
  for (const grant of funds.grants) gateway.told(spec.tenant, grant)
  return new Turn({ ...parts, purse: { ...funds.purse, session: parts.resident.session }, giveBack, log })
}

/** That of the session. A session does not move; one that seems to is not that which lives here. */
async function livingOf(warm: WarmPool, { spec, session }: Order, key: string, cwd: string): Promise<Resident | undefined> {
  const living = session.mode === 'resume' ? await warm.take(session.id, key, spec.tenant) : undefined
  if (living === undefined || living.cwd === cwd) return living
  await living.cli.cancel('kill')
  warm.giveBack(living)
  return undefined
}

/** The ids by which the CLI knows what is continued. */
function sessionOfCli(use: SessionUse): SessionUse {
  if (use.mode === 'new') return use
  if (use.mode === 'resume') return { mode: 'resume', id: use.cli ?? use.id }
  return { mode: 'fork', id: use.id, from: use.cli ?? use.from }
}

/** Without what pays, which is a turn's. */
function fundsOfCli(funds: Funds): FundsOfCli {
  if (funds.kind === 'direct') return funds
  const { kind, env, retries } = funds
  return { kind, env, ...(retries === undefined ? {} : { retries }) }
}
