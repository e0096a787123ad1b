/**
 * From a checked request to a run in the waiting line: session, directory, budget, idempotency. Every dialect submits
 * through here.
 *
 * A streamed or waiting request goes on when the runner has accepted and the lease is durable, so a bad `cwd` or an
 * unknown agent is an error of the request, not an event of a stream. A refused run leaves nothing behind.
 */
import { Fault } from '../../shared/faults.ts'
import { needsOf } from '../../shared/policy.ts'
import type { CliOptions, RunSpec, SessionUse } from '../../shared/run-spec.ts'
import { goodModel, narrowedCli, poolOf, refusePool } from '../guard/narrow.ts'
import { admit, giveUp, planOf, type Plan } from '../limits/admission.ts'
import type { RunWebhook } from '../../shared/webhooks.ts'
import { checkedAddress } from '../webhooks/address.ts'
import type { Claim, Deps, NewRun, Principal, RunRef } from '../ports.ts'
import { findClaim } from '../store/idempotency.ts'
import { usedBefore } from './claim.ts'
import { sessionHasTurn } from '../store/runs.ts'
import { findRunner } from '../store/runners.ts'
import { claimOpening, findSession, yieldOpening, type SessionRow } from '../store/sessions.ts'

const RETRY_AFTER_S = 2
/** A key that was freed between two looks is tried again; more often than this somebody plays games. */
const MAX_TRIES = 5

export interface Submission {
  readonly prompt: string
  readonly cli: CliOptions
  readonly sessionId: string | undefined
  readonly fork: boolean
  readonly cwd: string | undefined
  /** Undefined: the usual one, or the one that the token is good for. */
  readonly pool: string | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly priority: number
  readonly onBusy: 'queue' | 'reject'
  readonly timeoutS: number
  readonly queueTimeoutS: number
  /** Milliseconds after the last subscriber left; null: it goes on without any. */
  readonly onDisconnectMs: number | null
  readonly metadata: Record<string, string> | undefined
  /** The dialect that it is asked for in. */
  readonly origin: Origin
  /** A folder by its name, in place of `cwd`. */
  readonly workspace?: string | undefined
  readonly addDirs?: readonly string[] | undefined
  readonly maxLogBytes?: number | undefined
  readonly webhook?: RunWebhook | undefined
  readonly batch?: { readonly id: string; readonly index: number } | undefined
  /** Nobody waits for it, and its dialect lists it as a task. */
  readonly task?: boolean | undefined
  /** What all runs of its session together may cost, beside what the tenant says of that; the run gets what is left of it. */
  readonly sessionUsd?: number | undefined
}

export const ORIGINS = ['native', 'claudecode2api', 'ccs', 'claude-code-server', 'claude-code-api'] as const
export type Origin = (typeof ORIGINS)[number]

/**
 * `newSessionId` is made by the caller, which has the randomness: it names a fresh or forked conversation. `until` says
 * how long to wait: for the runner's word, or only until it is known that there is no slot at once.
 */
export async function submit(
  deps: Deps,
  who: Principal,
  wish: Submission,
  options: { newSessionId: string; claim: Claim | undefined; until: 'accepted' | 'placed'; signal: AbortSignal },
): Promise<RunRef> {
  const { tenant } = who
  const { claim, until, signal } = options
  if (wish.webhook) await checkedAddress(deps.store.db, wish.webhook.url, 'webhook.url')
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const used = claim && (await usedBefore(deps, tenant, claim))
    const run = used?.run ?? `run_${deps.platform.id()}`
    const ref: RunRef = { run, tenant }
    if (!used && !(await begin(deps, who, run, wish, options))) continue
    const outcome = await deps.line.outcome(ref, until, signal)
    // Not in line: it is under way or over, or it was refused just now and its key is free.
    if (outcome !== 'unknown' || (await deps.records.find(ref))) return ref
    // To offer it again would have a runner try once more what it has just refused.
    if (!used) throw new Fault('no_runner', `run ${run} was refused, and who knew why is gone`, { retryAfterS: RETRY_AFTER_S })
  }
  throw new Fault('busy', `too many requests for the same ${claim ? 'Idempotency-Key' : 'session'} at once`, { retryAfterS: RETRY_AFTER_S })
}

/** Into the line. False: its key was taken meanwhile, so there is another run to look at. */
async function begin(
  deps: Deps,
  who: Principal,
  run: string,
  wish: Submission,
  { newSessionId, claim }: { newSessionId: string; claim: Claim | undefined },
): Promise<boolean> {
  const session = wish.sessionId === undefined ? undefined : await continued(deps.store.db, who, wish)
  const { row, plan } = await newRun(deps, who, wish, session, newSessionId)
  const isOpening = session !== undefined && session.runner === null
  if (isOpening && !(await claimOpening(deps.store.db, session.id, run, deps.platform.now()))) {
    throw new Fault('session_busy', `the first run of session ${session.id} is under way`, { retryAfterS: RETRY_AFTER_S })
  }
  if (!isOpening) return hold(deps, who, run, row, plan, claim)
  let begun = false
  try {
    return (begun = await hold(deps, who, run, row, plan, claim))
  } catch (error) {
    begun = mayStart(error)
    throw error
  } finally {
    if (!begun) deps.platform.background(yieldOpening(deps.store.db, session.id, run))
  }
}

/** Its row may still be on the way: nothing is given back, and what is left without one is swept up later. */
const mayStart = (error: unknown) => error instanceof Fault && error.mayStart

/** With what it may spend held for it. */
async function hold(deps: Deps, who: Principal, run: string, row: Omit<NewRun, 'id'>, plan: Plan, claim: Claim | undefined): Promise<boolean> {
  try {
    await admit(deps, run, plan)
  } catch (error) {
    // An answer that was lost may have been a yes.
    if (error instanceof Fault && error.code === 'storage') deps.platform.background(giveUp(deps, run, plan))
    // Its twin may have been faster, and have taken the room that it found none of.
    if (claim && (await findClaim(deps.store.db, who.tenant, claim.key, deps.platform.now()))) return false
    throw error
  }
  try {
    if ((await deps.line.submit({ ...row, id: run }, claim)) === 'submitted') return true
  } catch (error) {
    if (!mayStart(error)) deps.platform.background(giveUp(deps, run, plan))
    throw error
  }
  await giveUp(deps, run, plan)
  return false
}

async function newRun(deps: Deps, who: Principal, wish: Submission, session: SessionRow | undefined, newSessionId: string) {
  const { store, platform } = deps
  const use = useOf(session, wish.fork, newSessionId)
  if (wish.onBusy === 'reject' && (await sessionHasTurn(store.db, use.id))) {
    throw new Fault('session_busy', `session ${use.id} has a turn in progress`, { retryAfterS: RETRY_AFTER_S })
  }
  // Nobody names what a session remembers, so it may give way to what the token is good for.
  const model = wish.cli.model ?? goodModel(who.narrowing, session?.model)
  const cli = narrowedCli(who.narrowing, model === undefined ? wish.cli : { ...wish.cli, model })
  const cwd = session?.cwd ?? wish.cwd
  const pool = await placeOf(store.db, who, wish.pool, session)
  const now = platform.now()
  const plan = await planOf(deps, who, { session: use.id, createdAt: now, sessionUsd: wish.sessionUsd }, cli.max_budget_usd)
  const { workspace, addDirs, maxLogBytes, batch } = wish
  const spec: RunSpec = {
    ...cli,
    ...(plan.budgetUsd === undefined ? {} : { max_budget_usd: plan.budgetUsd }),
    tenant: who.tenant,
    session: use,
    ...(cwd === undefined ? {} : { cwd }),
    ...(workspace === undefined || cwd !== undefined ? {} : { workspace }),
    ...(addDirs === undefined ? {} : { add_dirs: [...addDirs] }),
    ...(maxLogBytes === undefined ? {} : { max_log_bytes: maxLogBytes }),
    prompt: wish.prompt,
    ...(who.narrowing.models === undefined ? {} : { models: [...who.narrowing.models] }),
    timeout_s: wish.timeoutS,
  }
  const row = {
    tenant: who.tenant,
    subject: who.subject,
    token: who.jti,
    session: use.id,
    pool,
    labels: { ...wish.labels },
    bound: session?.runner ?? null,
    needs: needsOf(spec),
    priority: wish.priority,
    queueUntil: now + wish.queueTimeoutS * 1_000,
    spec,
    timeoutS: wish.timeoutS,
    onDisconnectMs: wish.onDisconnectMs,
    model: cli.model ?? null,
    metadata: wish.metadata ?? null,
    origin: wish.origin,
    batch: batch?.id ?? null,
    batchIndex: batch?.index ?? null,
    task: wish.task ?? null,
    webhook: wish.webhook ?? null,
    createdAt: now,
  }
  return { row, plan }
}

/** One that was prepared and has had no run is opened under its own id. */
function useOf(session: SessionRow | undefined, fork: boolean, newId: string): SessionUse {
  if (!session) return { mode: 'new', id: newId }
  if (session.runner === null) return { mode: 'new', id: session.id }
  const cli = session.cliId === null ? {} : { cli: session.cliId }
  return fork ? { mode: 'fork', id: newId, from: session.id, ...cli } : { mode: 'resume', id: session.id, ...cli }
}

/** A session waits in the line of the machine that has it, wherever that has been put. Throws `forbidden` when the token is not good there. */
async function placeOf(db: Deps['store']['db'], { narrowing }: Principal, asked: string | undefined, session: SessionRow | undefined): Promise<string> {
  const its = session?.runner ? (await findRunner(db, session.runner))?.pool : session?.pool
  if (its === undefined || its === null) return poolOf(narrowing, asked)
  refusePool(narrowing, its)
  return its
}

async function continued(db: Deps['store']['db'], who: Principal, wish: Submission): Promise<SessionRow> {
  const session = await findSession(db, who.tenant, wish.sessionId ?? '')
  if (!session) throw new Fault('session_not_found', `no session ${wish.sessionId}`, { extra: { field: 'session_id' } })
  if (session.status !== 'active') throw new Fault('session_inactive', `session ${session.id} is ${session.status}`, { extra: { field: 'session_id' } })
  if (session.runner === null && wish.fork) {
    throw new Fault('invalid_request', `fork_session: session ${session.id} has no turn to fork from`, { extra: { field: 'fork_session' } })
  }
  if (wish.cwd !== undefined && session.cwd !== null && wish.cwd !== session.cwd) {
    throw new Fault('session_cwd', `session ${session.id} lives in ${session.cwd}; leave cwd out to continue it`, { extra: { field: 'cwd' } })
  }
  return session
}
