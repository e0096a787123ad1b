/** One choice of a provider: what core/provider-choice plans, with the turns drawn and the probes claimed. */
import { base64url } from 'jose'
import type { Routing } from '../../shared/tenant-settings.ts'
import { probeMs, standingOf } from '../core/breaker.ts'
import { askedFor, planOf, smooth, type Plan } from '../core/provider-choice.ts'
import type { Dispatch } from '../ports.ts'
import { takeTurn } from '../store/counters.ts'
import { takeLeastBusy } from '../store/granted.ts'
import { claimProbe, handOnProbe, type HealthRow } from '../store/provider-health.ts'
import type { ProviderRow } from '../store/providers.ts'
import type { TreasuryParts } from './parts.ts'

export interface Choice {
  readonly first: ProviderRow
  readonly by: Plan['by']
  /** Whose probe somebody else has. */
  readonly taken: ReadonlySet<string>
  /** The claim of this run, and what it covers of the first provider: models, '' for all of it. */
  readonly probe: { readonly until: number; readonly models: readonly string[] } | undefined
  /** The turn that was drawn, or any number. */
  readonly turn: number
}

export interface Wanted {
  readonly d: Dispatch
  /** At least one. */
  readonly fit: readonly ProviderRow[]
  readonly health: readonly HealthRow[]
  readonly routing: Routing
  readonly bound: string | undefined
  readonly now: number
}

const ANY_TURN = 2 ** 31
/** 128 bits: no two sets share a name. */
const NAME_BYTES = 16

export async function choose(parts: TreasuryParts, { d, fit, health, routing, bound, now }: Wanted): Promise<Choice> {
  const { db } = parts.store()
  const { model } = d.spec
  const taken = new Set<string>()
  for (;;) {
    const plan = planOf(fit, health, { now, model, bound, taken })
    if (plan.by === 'probe') {
      const { first } = plan
      const asked = askedFor(first, model)
      // Only what this run is sure to try: a claim keeps everybody else from it.
      const due = health.filter((h) => h.provider === first.id && standingOf(h, now).is === 'due' && (h.model === '' || h.model === asked)).map((h) => h.model)
      const until = now + probeMs(routing)
      const models = await claimProbe(db, d.tenant, first.id, now, until, due)
      parts.catalog().changed(d.tenant, 'health')
      if (due.every((name) => models.includes(name))) return { first, by: 'probe', taken, probe: { until, models }, turn: anyTurn(parts) }
      if (models.length > 0) await parts.store().batch([handOnProbe(db, d.tenant, first.id, until)])
      taken.add(first.id)
      continue
    }
    const drawn = plan.by === 'turn' ? await draw(parts, d, routing, plan.among) : { first: plan.first, turn: anyTurn(parts) }
    return { ...drawn, by: plan.by, taken, probe: undefined }
  }
}

async function draw(parts: TreasuryParts, d: Dispatch, { strategy }: Routing, among: readonly ProviderRow[]): Promise<{ first: ProviderRow; turn: number }> {
  const { db } = parts.store()
  if (strategy === 'least-busy') {
    const id = await takeLeastBusy(db, d, among)
    return { first: among.find((o) => o.id === id) ?? among[0]!, turn: anyTurn(parts) }
  }
  // Each set of candidates counts by itself: on a common count, runs of two kinds that alternate would each see every other turn only.
  const turn = await takeTurn(db, `choice/${d.tenant}/${await shortName(among.map((o) => o.id).join(','))}`)
  const weights = among.map((o) => (strategy === 'weighted' ? o.weight : 1))
  return { first: among[smooth(weights, turn)]!, turn }
}

/** The names of hundreds would make a long id. */
async function shortName(names: string): Promise<string> {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(names))
  return base64url.encode(new Uint8Array(hash).subarray(0, NAME_BYTES))
}

const anyTurn = ({ platform }: TreasuryParts) => Math.floor(platform.random() * ANY_TURN)
