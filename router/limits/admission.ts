/**
 * Room for one run, in every budget and limit that it falls under: taken before anybody is asked to run it, refused with
 * the numbers. What a run may cost is decided here and passed to the CLI; what it did cost, in the commit of its ending.
 */
import { Fault } from '../../shared/faults.ts'
import { allowanceId, dayEnd, readAllowanceId, sessionLimitMicros, toMicros, toUsd, wantsOf } from '../core/budget.ts'
import type { SessionBudget, Want } from '../core/budget.ts'
import type { Db, Deps, Principal } from '../ports.ts'
import { releaseStatements, reserve, spentBudget, usedOf, whatIsFull, type Full, type Holder } from '../store/allowances.ts'

const RETRY_AFTER_S = 2
/** Somebody else may have made room between the attempt and the look at why it failed. */
const MAX_TRIES = 3

export interface Plan {
  readonly by: Holder
  readonly wants: readonly Want[]
  /** What the run is told that it may spend; undefined: nobody says. */
  readonly budgetUsd: number | undefined
}

/**
 * What a run needs room in. Throws `budget` for one that its token lets spend nothing at all, or that finds nothing left of
 * `sessionUsd`: what all runs of its session together may cost, in the word of whoever asks.
 */
export async function planOf(
  { catalog, store }: Pick<Deps, 'catalog' | 'store'>,
  who: Principal,
  { sessionUsd, ...run }: Pick<Holder, 'session' | 'createdAt'> & { sessionUsd?: number | undefined },
  askedUsd: number | undefined,
): Promise<Plan> {
  const limits = (await catalog.tenant(who.tenant))?.settings.limits ?? {}
  const by = { tenant: who.tenant, token: who.jti, session: run.session, createdAt: run.createdAt, tokenSince: sinceOf(who) }
  const limitMicros = sessionUsd === undefined ? undefined : sessionLimitMicros(sessionUsd, limits)
  const session = limitMicros === undefined ? undefined : await leftOf(store.db, by, limitMicros, askedUsd)
  const { wants, budgetUsd } = wantsOf(by, askedUsd, limits, who.narrowing, session)
  if (budgetUsd !== undefined && budgetUsd <= 0) {
    const extra = { budget: 'run', limit_usd: 0, spent_usd: 0, reserved_usd: 0, asked_usd: askedUsd ?? 0 }
    throw new Fault('budget', 'the token lets a run spend nothing', { extra })
  }
  return { by, wants, budgetUsd }
}

/** What is left now; whoever is faster takes it, and then there is no room when it is to be held. */
async function leftOf(db: Db, by: Holder, limitMicros: number, askedUsd = 0): Promise<SessionBudget> {
  const allowance = allowanceId('session', by)
  const { spent, held } = await usedOf(db, { kind: 'session', allowance }, by)
  const leftMicros = limitMicros - spent - held
  if (leftMicros > 0) return { limitMicros, leftMicros }
  const want: Want = { kind: 'session', allowance, unit: 'usd', amount: toMicros(askedUsd), limit: limitMicros }
  throw refusal({ want, spent, held }, by)
}

/** Holds what the plan wants, all of it or nothing. Throws `budget` or `concurrency`. */
export async function admit(deps: Pick<Deps, 'store' | 'platform'>, run: string, { by, wants }: Plan): Promise<void> {
  const { store, platform } = deps
  if (wants.length === 0) return
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    if (await reserve(store, run, by, wants, platform.now())) return
    const full = await whatIsFull(store.db, wants)
    if (full) throw refusal(full, by)
  }
  throw new Fault('concurrency', 'too many runs are asked for at once', { retryAfterS: RETRY_AFTER_S })
}

/** Why a run may not begin that was let in some time ago: a budget of it has been spent meanwhile. */
export async function spentMeanwhile(db: Db, run: { run: string; tenant: string; createdAt: number }): Promise<Fault | undefined> {
  const found = await spentBudget(db, run.run)
  const { kind = 'tenant' } = (found && readAllowanceId(run.tenant, found.id)) ?? {}
  if (!found) return undefined
  const { id, limit, spent, held } = found
  return refusal({ want: { kind, allowance: id, unit: 'usd', amount: 0, limit }, spent, held }, run)
}

/** The budget of a token of another issuer is its subject's, who has had others before. */
const sinceOf = ({ from, issuedAt }: Principal) => (from === 'issuer' ? 0 : issuedAt)

/** The run has no row, and will not get one. */
export async function giveUp({ store }: Pick<Deps, 'store'>, run: string, { wants }: Plan): Promise<void> {
  if (wants.length > 0) await store.batch(releaseStatements(store.db, run))
}

const OF: Record<Want['kind'], string> = {
  tenant: 'the budget of the tenant',
  day: 'the budget of the tenant for this day',
  token: 'the budget of the token',
  token_day: 'the budget of the token for this day',
  session: 'the budget of the session',
  runs: 'runs of the tenant',
}

function refusal({ want, spent, held }: Full, { createdAt }: Pick<Holder, 'createdAt'>): Fault {
  const { kind, limit, amount } = want
  if (kind === 'runs') {
    const extra = { limit, running: held }
    return new Fault('concurrency', `${held} ${OF.runs} wait or run, and ${limit} may`, { retryAfterS: RETRY_AFTER_S, extra })
  }
  const [limitUsd, spentUsd, heldUsd, askedUsd] = [limit, spent, held, amount].map(toUsd)
  const use = `${spentUsd} spent, ${heldUsd} reserved by runs under way, ${askedUsd} asked for`
  const resets = kind === 'day' || kind === 'token_day' ? { resets_at: new Date(dayEnd(createdAt)).toISOString() } : {}
  return new Fault('budget', `${OF[kind]} is ${limitUsd} USD: ${use}`, {
    extra: { budget: kind, limit_usd: limitUsd, spent_usd: spentUsd, reserved_usd: heldUsd, asked_usd: askedUsd, ...resets },
  })
}
