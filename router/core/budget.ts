/**
 * What a run may spend and what it has spent: which allowances it draws on, how much it reserves, and what is charged.
 *
 * Amounts are whole millionths of a dollar, so that sums are exact. Nothing here reads a clock or stores a value: whether
 * there is room is for store/allowances, in the commit that takes it.
 */
import type { ExitMark } from '../../shared/marks.ts'
import { DEFAULT_RUN_USD, type Narrowing, type TenantLimits } from '../../shared/tenant-settings.ts'

const MICROS = 1_000_000
/** The most that a run can be passed (shared/run-spec). */
const MAX_RUN_USD = 100_000

/** Never more than a sum can hold exactly, which is what the database can be asked for. */
export function toMicros(usd: number): number {
  return Math.min(Math.round(usd * MICROS), Number.MAX_SAFE_INTEGER)
}

export function toUsd(micros: number): number {
  return micros / MICROS
}

/** Whose budget or limit it is. `runs` counts runs that wait or run; the others are money. */
export type AllowanceKind = 'tenant' | 'day' | 'token' | 'token_day' | 'session' | 'runs'

/** What one run wants of one allowance: `amount` more, while all of it together stays at or under `limit`. */
export interface Want {
  readonly kind: AllowanceKind
  readonly allowance: string
  readonly unit: 'usd' | 'run'
  readonly amount: number
  readonly limit: number
}

/** Whose run, by the names that its row has. */
export interface Spender {
  readonly tenant: string
  readonly token: string
  readonly session: string
  /** Milliseconds since 1970: a run belongs to the day on which it was submitted. */
  readonly createdAt: number
}

/** `2026-11-21`, of UTC. */
export function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10)
}

/** When the day of `at` is over. */
export function dayEnd(at: number): number {
  return Date.parse(`${dayOf(at)}T00:00:00Z`) + 86_400_000
}

/**
 * A tenant has no slash in its name and the id of a token is last, so no two of these are the same. What settles a run spells
 * them in SQL (store/allowances).
 */
export function allowanceId(kind: AllowanceKind, { tenant, token, session, createdAt }: Spender): string {
  switch (kind) {
    case 'tenant':
      return `${tenant}/usd`
    case 'day':
      return `${tenant}/usd/day/${dayOf(createdAt)}`
    case 'session':
      return `${tenant}/usd/session/${session}`
    case 'token':
      return `${tenant}/usd/token/${token}`
    case 'token_day':
      return `${tenant}/usd/token-day/${dayOf(createdAt)}/${token}`
    case 'runs':
      return `${tenant}/runs`
  }
}

/** The way back: what an id of this tenant stands for. Undefined: none of ours. */
export function readAllowanceId(tenant: string, id: string): { kind: AllowanceKind; of?: string; day?: string } | undefined {
  const rest = id.startsWith(`${tenant}/`) ? id.slice(tenant.length + 1) : ''
  if (rest === 'runs') return { kind: 'runs' }
  if (rest === 'usd') return { kind: 'tenant' }
  const [, what, tail] = /^usd\/(day|session|token|token-day)\/(.*)$/s.exec(rest) ?? []
  if (what === undefined || tail === undefined) return undefined
  if (what === 'day') return { kind: 'day', day: tail }
  if (what === 'session' || what === 'token') return { kind: what, of: tail }
  return { kind: 'token_day', day: tail.slice(0, 10), of: tail.slice(11) }
}

/** What a run costs at most, as far as it or those who let it in have said: in USD, passed to the CLI. Undefined: nobody did. */
function runBudget(
  asked: number | undefined,
  { budget }: TenantLimits,
  { run_usd: cap }: Narrowing,
  isReserved: boolean,
): number | undefined {
  const usd = asked ?? cap ?? budget?.run_usd ?? (isReserved ? DEFAULT_RUN_USD : undefined)
  return usd === undefined ? undefined : Math.min(usd, cap ?? usd, MAX_RUN_USD)
}

/** A budget that a request sets for its session, and what the others have left of it. */
export interface SessionBudget {
  readonly limitMicros: number
  readonly leftMicros: number
}

/** The smaller of what a request and its tenant let a session cost. */
export function sessionLimitMicros(asked: number, { budget }: TenantLimits): number {
  return toMicros(Math.min(asked, budget?.session_usd ?? asked))
}

/**
 * Everything that one run has to have room in; empty where nothing is limited. `budgetUsd`: what the run is passed as its
 * own budget, set in `usd` wherever money is limited at all. With a `session` it is never more than is left of that, and
 * all of it where nobody says less.
 */
export function wantsOf(
  by: Spender,
  asked: number | undefined,
  limits: TenantLimits,
  narrowing: Narrowing,
  session?: SessionBudget,
): { wants: Want[]; budgetUsd: number | undefined } {
  const { budget } = limits
  const usd: [AllowanceKind, number | undefined][] = [
    ['tenant', budget?.total_usd],
    ['day', budget?.day_usd],
    // What a token carries may be less than what its tenant has for each token, and never more.
    ['token', smaller(narrowing.budget_usd, budget?.token_usd)],
    ['token_day', narrowing.day_usd],
    ['session', session ? toUsd(session.limitMicros) : budget?.session_usd],
  ]
  const isReserved = session === undefined && usd.some(([, limit]) => limit !== undefined)
  const wished = runBudget(asked, limits, narrowing, isReserved)
  const budgetUsd = session ? Math.min(wished ?? MAX_RUN_USD, toUsd(session.leftMicros)) : wished
  // Never less than what the CLI is told it may spend, and never more than there is for what a rounding adds.
  const amount = Math.min(Math.ceil((budgetUsd ?? 0) * MICROS), session?.leftMicros ?? Infinity)
  const wants = usd.flatMap(([kind, limit]): Want[] =>
    limit === undefined ? [] : [{ kind, allowance: allowanceId(kind, by), unit: 'usd', amount, limit: toMicros(limit) }],
  )
  const { concurrent_runs: most } = limits
  if (most !== undefined) wants.push({ kind: 'runs', allowance: allowanceId('runs', by), unit: 'run', amount: 1, limit: most })
  return { wants, budgetUsd }
}

function smaller(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? (a ?? b) : Math.min(a, b)
}

/** Their processes never asked a model for anything. */
const UNBEGUN: ReadonlySet<ExitMark['reason']> = new Set(['not_started', 'queue_timeout', 'rejected'])

/** `usd` undefined: nobody knows. `isLeast`: it was that or more. What it had reserved is charged then, where that is more. */
export interface Cost {
  readonly usd: number | undefined
  readonly isLeast: boolean
}

const exactly = (usd: number): Cost => ({ usd, isLeast: false })
const atLeast = (usd: number): Cost => ({ usd: usd > 0 ? usd : undefined, isLeast: true })

/**
 * What a run cost. The gateway's count of tokens comes first where its provider has a price list: a tool can write to the
 * stdout of its CLI, so the CLI's own word is worth less, and never makes less of what was counted. It is all there is
 * where nothing had a price. `begun`: the run has been given to a runner.
 */
export function costOf(exit: Pick<ExitMark, 'reason' | 'result' | 'metered'>, begun: boolean): Cost {
  const { reason, result, metered } = exit
  if (!begun || UNBEGUN.has(reason)) return exactly(0)
  const known = metered?.known_usd ?? 0
  if (typeof metered?.cost_usd === 'number') return exactly(Math.max(metered.cost_usd, known))
  // There are prices, and something that they could not be held against.
  if (known > 0) return atLeast(Math.max(known, result?.cost_usd ?? 0))
  if (metered?.requests === 0) return exactly(result?.cost_usd ?? 0)
  // Of a turn that was cut off the CLI counts nothing of what the model had said by then: a result of 0 is none.
  return result && reason === 'completed' ? exactly(result.cost_usd) : atLeast(result?.cost_usd ?? 0)
}
