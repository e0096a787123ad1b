/** One choice of a provider: what core/provider-choice plans, with the turns drawn and the probes claimed. */
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

export async function choose(parts: TreasuryParts, { d, fit, health, routing, bound, now }: Wanted): Promise<Choice> {
  const { db } = parts.store()
  const { model } = d.spec
  const taken = new Set<string>()
  const claim = async (provider: string): Promise<Choice['probe']> => {
    const until = now + probeMs(routing)
    const models = await claimProbe(db, d.tenant, provider, now, until)
    parts.catalog().changed(d.tenant)
    return models.length > 0 ? { until, models } : undefined
  }
  for (;;) {
    const plan = planOf(fit, health, { now, model, bound, taken })
    if (plan.by === 'probe') {
      const { first } = plan
      const probe = await claim(first.id)
      const asked = askedFor(first, model)
      const needed = health.filter((h) => h.provider === first.id && isDue(h, now) && (h.model === '' || h.model === asked))
      if (probe && needed.every((h) => probe.models.includes(h.model))) return { first, by: 'probe', taken, probe, turn: anyTurn(parts) }
      if (probe) await handOnProbe(db, d.tenant, first.id, probe.until)
      taken.add(first.id)
      continue
    }
    const drawn = plan.by === 'turn' ? await draw(parts, d, routing, plan.among) : { first: plan.first, turn: anyTurn(parts) }
    // Models that the CLI may ask for beside the one that was named, or under another name.
    const hasDue = plan.by !== 'degraded' && health.some((h) => h.provider === drawn.first.id && isDue(h, now))
    return { ...drawn, by: plan.by, taken, probe: hasDue ? await claim(drawn.first.id) : undefined }
  }
}

async function draw(parts: TreasuryParts, d: Dispatch, { strategy }: Routing, among: readonly ProviderRow[]): Promise<{ first: ProviderRow; turn: number }> {
  const { db } = parts.store()
  if (strategy === 'least-busy') {
    const id = await takeLeastBusy(db, d, among)
    return { first: among.find((o) => o.id === id) ?? among[0]!, turn: anyTurn(parts) }
  }
  // Each set of candidates counts by itself: on a common count, runs of two kinds that alternate would each see every other turn only.
  const turn = await takeTurn(db, `choice/${d.tenant}/${among.map((o) => o.id).join(',')}`)
  const weights = among.map((o) => (strategy === 'weighted' ? o.weight : 1))
  return { first: among[smooth(weights, turn)]!, turn }
}

const isDue = (row: HealthRow, now: number) => standingOf(row, now).is === 'due'
const anyTurn = ({ platform }: TreasuryParts) => Math.floor(platform.random() * ANY_TURN)
