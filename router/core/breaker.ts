/**
 * The breaker of a provider, or of one model of it: closed → open → half_open → closed or open again.
 *
 * Here it is decided who is to blame for a request and what a breaker means to a run. Counting and moving is the store's,
 * one statement a move, as replicas share each breaker. Times are milliseconds of the router's clock.
 */
import type { Outcome, ProviderReport } from '../../shared/grants.ts'
import { ModelName } from '../../shared/run-spec.ts'
import type { Routing } from '../../shared/tenant-settings.ts'

/** A provider that says for how long it wants to be left alone is not believed beyond this. */
export const MAX_RETRY_AFTER_MS = 300_000
/** From the grant of a probe until its first response headers: the offer, the start of the CLI, the first request. */
const PROBE_SLACK_MS = 30_000

export interface Breaker {
  readonly provider: string
  /** '' for the provider as a whole. */
  readonly model: string
  readonly state: 'closed' | 'open' | 'half_open'
  /** Null while open: not before an admin acts. */
  readonly openUntil: number | null
  readonly probeUntil: number | null
}

/** `due`: one run may try, whichever claims it. */
export type Standing = { readonly is: 'closed' } | { readonly is: 'due' } | { readonly is: 'open'; readonly until: number | null }

const CLOSED: Standing = { is: 'closed' }

export function standingOf({ state, openUntil, probeUntil }: Breaker, now: number): Standing {
  if (state === 'closed') return CLOSED
  // A probe that never reported frees itself.
  const until = state === 'open' ? openUntil : (probeUntil ?? now)
  return until !== null && until <= now ? { is: 'due' } : { is: 'open', until }
}

/** Of several breakers that all have to let a run through. */
export function worst(standings: readonly Standing[]): Standing {
  return standings.reduce((a, b) => (badness(b) > badness(a) ? b : a), CLOSED)
}

/** Orders standings by how soon a run may be let through; one that waits for an admin is the last. */
export function badness(standing: Standing): number {
  if (standing.is !== 'open') return standing.is === 'closed' ? -2 : -1
  return standing.until ?? Number.POSITIVE_INFINITY
}

/** For so long a probe keeps everybody else from trying. */
export function probeMs(routing: Routing): number {
  return routing.headers_timeout_s * 1_000 + PROBE_SLACK_MS
}

/**
 * What a request says of its provider. `counts`: the breaker opens when there were enough of them in a row. `opens`: at
 * once, of the provider or of one model, until then; null: until an admin acts.
 */
export type Verdict =
  | { readonly is: 'ok' }
  | { readonly is: 'nothing' }
  | { readonly is: 'counts'; readonly model: ''; readonly reason: string }
  | { readonly is: 'opens'; readonly model: string; readonly until: number | null; readonly reason: string }

type Reported = Pick<ProviderReport, 'outcome' | 'model' | 'status' | 'retry_after_ms'>

export function verdictOf({ outcome, model, status, retry_after_ms }: Reported, routing: Routing, now: number): Verdict {
  const reason = status === null ? outcome : `${outcome} (${status})`
  const recoveryMs = routing.recovery_s * 1_000
  switch (outcome) {
    case 'ok':
      return { is: 'ok' }
    case 'caller':
    case 'cancelled':
    // The owner of one machine does not allow its address: that must not close it to all the others.
    case 'refused_url':
      return { is: 'nothing' }
    case 'auth':
      return { is: 'opens', model: '', until: null, reason }
    case 'forbidden':
    case 'not_found':
      // The name goes into grants, where one that is none would spoil the whole offer.
      return model !== null && ModelName.safeParse(model).success ? { is: 'opens', model, until: now + recoveryMs, reason } : { is: 'nothing' }
    case 'rate_limited':
      return { is: 'opens', model: '', until: now + Math.min(retry_after_ms ?? recoveryMs, MAX_RETRY_AFTER_MS), reason }
    case 'overloaded':
    case 'server':
    case 'unreachable':
    case 'timeout':
      return { is: 'counts', model: '', reason }
  }
}

/** The provider failed as a whole, whatever follows from it. */
export function isProviders(outcome: Outcome): boolean {
  return !['ok', 'caller', 'cancelled', 'forbidden', 'not_found'].includes(outcome)
}
