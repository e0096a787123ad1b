/**
 * What a page of reports changes of the breakers of one tenant: as few statements as that takes, in the order of the
 * reports of each provider. What would change nothing, as far as is known here, is left out; so a breaker that is open
 * costs no write for each request that still fails, however many do.
 */
import type { ProviderReport } from '../../shared/grants.ts'
import type { Routing } from '../../shared/tenant-settings.ts'
import { standingOf, verdictOf } from '../core/breaker.ts'
import type { Db, Statement } from '../ports.ts'
import { hasRoom, recordFailure, recordOpening, recordSuccess, type Failure, type HealthPlace, type HealthRow, type Opening, type Success } from '../store/provider-health.ts'

/** An opening that would only prolong another one by less changes nothing worth a write. */
const SLACK_MS = 1_000

type Step = { readonly place: HealthPlace } & (
  | { readonly is: 'ok'; readonly how: Success }
  | { readonly is: 'counts'; how: Failure }
  | { readonly is: 'opens'; how: Opening }
)

export interface Known {
  readonly routing: Routing
  readonly health: readonly HealthRow[]
  readonly now: number
}

export class Steps {
  readonly #known: Known
  /** Of each provider. */
  readonly #steps = new Map<string, Step[]>()

  constructor(known: Known) {
    this.#known = known
  }

  /** `claim`: the time that names the claim of its run on this provider. */
  add(tenant: string, report: ProviderReport, claim: number | undefined): void {
    const { routing, now } = this.#known
    const { provider, version, stage } = report
    const verdict = verdictOf(report, routing, now)
    const place = { tenant, provider, version, model: report.model ?? '' }
    switch (verdict.is) {
      case 'nothing':
        return
      case 'ok':
        return this.#add({ is: 'ok', place, how: { stage, claimed: claim !== undefined } })
      case 'counts': {
        const until = now + routing.recovery_s * 1_000
        const how = { count: 1, threshold: routing.failure_threshold, until, reason: verdict.reason, probeUntil: claim }
        return this.#add({ is: 'counts', place: { ...place, model: '' }, how })
      }
      case 'opens':
        return this.#add({ is: 'opens', place: { ...place, model: verdict.model }, how: { count: 1, until: verdict.until, reason: verdict.reason } })
    }
  }

  statements(db: Db): Statement[] {
    const { now } = this.#known
    return [...this.#steps.values()].flat().flatMap((step) => {
      if (step.is === 'ok') return recordSuccess(db, step.place, step.how, now)
      return step.is === 'counts' ? [recordFailure(db, step.place, step.how, now)] : recordOpening(db, step.place, step.how, now)
    })
  }

  #add(step: Step): void {
    const { provider } = step.place
    const steps = this.#steps.get(provider)
    if (!steps && !this.#changes(step)) return
    if (!steps) return void this.#steps.set(provider, [step])
    // Steps of one kind may change places among themselves, so all of those at the end are looked at.
    const same = steps.slice(steps.findLastIndex(({ is }) => is !== step.is) + 1).find((other) => keyOf(other) === keyOf(step))
    if (!same) steps.push(step)
    else merge(same, step)
  }

  #changes(step: Step): boolean {
    const { health, now } = this.#known
    const { provider, model } = step.place
    const its = health.filter((row) => row.provider === provider)
    const row = its.find((other) => other.model === (step.is === 'ok' ? '' : model))
    switch (step.is) {
      case 'ok':
        return its.some((other) => (other.model === '' || other.model === model) && isSettled(other, step.how, now))
      case 'counts': {
        if (row?.state === 'half_open') return row.probeUntil === step.how.probeUntil
        return row === undefined || standingOf(row, now).is !== 'open'
      }
      case 'opens': {
        if (row === undefined) return model === '' || hasRoom(its, now)
        const { until } = step.how
        return row.state !== 'open' || (row.openUntil !== null && (until === null || until > row.openUntil + SLACK_MS))
      }
    }
  }
}

/** As recordSuccess has it. */
function isSettled(row: HealthRow, { stage, claimed }: Success, now: number): boolean {
  if (stage === 'end' && row.state === 'closed') return row.failures > 0
  return (claimed && row.state === 'half_open') || (stage === 'headers' && standingOf(row, now).is === 'due')
}

function keyOf(step: Step): string {
  const { version, model } = step.place
  if (step.is === 'ok') return `${version} ${model} ${step.how.stage} ${step.how.claimed}`
  return step.is === 'counts' ? `${version} ${step.how.probeUntil}` : `${version} ${model}`
}

function merge(into: Step, step: Step): void {
  if (into.is === 'counts' && step.is === 'counts') into.how = { ...step.how, count: into.how.count + step.how.count }
  if (into.is === 'opens' && step.is === 'opens') {
    const [a, b] = [into.how.until, step.how.until]
    into.how = { ...step.how, count: into.how.count + step.how.count, until: a === null || b === null ? null : Math.max(a, b) }
  }
}
