/**
 * What runs pay for their tokens with: for each offer the providers that it may use, in order, with their keys sealed to
 * its runner; and what becomes of what the gateways report.
 *
 * It keeps plain data between calls and nothing that belongs to a request, so that a host may keep one for as long as it likes.
 */
import { Fault } from '../../shared/faults.ts'
import type { Grant, Grants, ProviderReport } from '../../shared/grants.ts'
import { routingOf, type Routing } from '../../shared/tenant-settings.ts'
import { fitting, lineUp } from '../core/provider-choice.ts'
import type { Dispatch, Payee, RunRef, Treasury } from '../ports.ts'
import { bindStatement, boundProvider } from '../store/bindings.ts'
import { markGranted } from '../store/granted.ts'
import { handOnProbe } from '../store/provider-health.ts'
import type { ProviderRow } from '../store/providers.ts'
import { choose, type Choice } from './choose.ts'
import { grantsOf, type Sealed } from './grants-of.ts'
import { openKey } from './keys.ts'
import { payable } from './payable.ts'
import type { TreasuryParts } from './parts.ts'
import { Reports } from './reports.ts'
import { RunNotes } from './run-notes.ts'
import { sealingKeyOf, sealTo, type SealingKeys } from './seal.ts'

export type { TreasuryParts } from './parts.ts'

export interface ClosableTreasury extends Treasury {
  /** Resolves when all that was granted and reported is stored, or could not be. */
  settled(): Promise<void>
}

export function treasuryOf(parts: TreasuryParts): ClosableTreasury {
  const notes = new RunNotes()
  const reports = new Reports(parts, notes)
  const runners: SealingKeys = new Map()
  const writing = new Set<Promise<void>>()
  const later = (work: Promise<unknown>) => {
    const settle = async () => {
      try {
        await work
      } catch (error) {
        parts.log.warn({ err: error }, 'the provider of a session could not be noted')
      } finally {
        writing.delete(done)
      }
    }
    const done = settle()
    writing.add(done)
    parts.platform.background(done)
  }
  return {
    grants: (d, to) => grantsFor({ ...parts, notes, runners }, d, to),
    begun({ run }: RunRef) {
      const its = notes.get(run)
      if (!its?.binding) return
      const store = parts.store()
      // Nobody asks for it before this run is over.
      later(store.batch([bindStatement(store.db, its.binding)]))
      its.binding = undefined
    },
    over: ({ tenant, run }: RunRef) => reports.over(tenant, run),
    report: (tenant: string, report: ProviderReport) => reports.take(tenant, report),
    async settled() {
      await Promise.all(writing)
      await reports.settled()
    },
  }
}

type Parts = TreasuryParts & { readonly notes: RunNotes; readonly runners: SealingKeys }

async function grantsFor(parts: Parts, d: Dispatch, to: Payee): Promise<Grants | undefined> {
  const catalog = parts.catalog()
  const rows = await catalog.providers(d.tenant)
  if (rows.length === 0) return undefined
  const store = parts.store()
  const { db } = store
  const now = parts.platform.now()
  const { mode, id: session } = d.spec.session
  const before = parts.notes.get(d.run)
  const [tenant, bound] = await Promise.all([
    catalog.tenant(d.tenant),
    mode === 'new' ? undefined : boundProvider(db, d.tenant, session, now),
    // Offered before, and nothing came of it: whoever is next may try what it was to try.
    before?.probe && store.batch([handOnProbe(db, d.tenant, before.probe.provider, before.probe.until)]),
  ])
  if (before?.probe) catalog.changed(d.tenant, 'health')
  const routing = routingOf(tenant?.settings ?? {})
  const usable = usableBy(rows, d, to)
  for (let fit = usable; fit.length > 0; ) {
    const health = await catalog.health(d.tenant)
    const choice = await choose(parts, { d, fit, health, routing, bound, now })
    const { first, taken, turn, probe } = choice
    const line = lineUp(first, fit, health, { now, model: d.spec.model, taken, failover: routing.failover, turn })
    const granted = await sealedLine(parts, d, to, line)
    if (granted[0]?.row !== first) {
      if (probe) await store.batch([handOnProbe(db, d.tenant, first.id, probe.until)])
      catalog.changed(d.tenant, 'health')
      fit = fit.filter((row) => row !== first)
      continue
    }
    await note(parts, d, { choice, routing, bound, now, session, granted: granted.map(({ row }) => row.id) })
    return grantsOf(granted, { d, routing, health, now, probed: probe?.models ?? [] })
  }
  throw new Fault('unknown_provider', `the key of provider ${usable.map((row) => row.id).join(', ')} cannot be opened with the master key of this router`)
}

/** Those that this run may use on this machine; throws a fault that says why there are none. */
function usableBy(rows: readonly ProviderRow[], d: Dispatch, to: Payee): ProviderRow[] {
  const fitted = fitting(rows, to.pool, d.spec.model)
  if (!fitted.ok) throw new Fault('unknown_provider', fitted.why)
  const paid = payable(fitted.fit, to)
  if (paid.ok) return paid.fit
  if (paid.forbidden) throw new Fault('policy', paid.why, { extra: { field: 'allow_private_base_urls' } })
  throw new Fault('unknown_provider', paid.why)
}

/** With their keys sealed for this run. One whose key cannot be opened is as good as not there. */
async function sealedLine(parts: Parts, d: Dispatch, to: Payee, line: readonly ProviderRow[]): Promise<Sealed[]> {
  const apis = await Promise.all(line.map((row) => sealed(parts, d, to, row)))
  return line.flatMap((row, i): Sealed[] => {
    const api = apis[i]
    return api === 'lost' ? [] : [{ row, api }]
  })
}

/** Undefined: the login of the machine. */
async function sealed(parts: Parts, { run }: Dispatch, { runner }: Payee, row: ProviderRow): Promise<Grant['api'] | 'lost'> {
  if (row.baseUrl === null) return undefined
  let apiKey: string
  try {
    apiKey = await openKey(await parts.vault(), row)
  } catch (error) {
    parts.log.error({ err: error, tenant: row.tenant, provider: row.id }, 'the key of a provider cannot be opened')
    return 'lost'
  }
  const jwk = await sealingKeyOf(parts.store().db, parts.runners, runner)
  if (!jwk) throw new Fault('no_runner', 'the runner is not enrolled any more')
  return { base_url: row.baseUrl, sealed_key: await sealTo(jwk, { run, provider: row.id }, apiKey) }
}

type Noting = { choice: Choice; routing: Routing; bound: string | undefined; now: number; session: string; granted: string[] }

/** What the next run of the session, and who reads of this run, has to find. */
async function note(parts: Parts, d: Dispatch, { choice, routing, bound, now, session, granted }: Noting): Promise<void> {
  const store = parts.store()
  const provider = choice.first.id
  const degraded = choice.by === 'degraded'
  const binding = { session, tenant: d.tenant, provider, createdAt: now, expiresAt: now + routing.binding_ttl_s * 1_000 }
  const wasDegraded = parts.notes.get(d.run)?.degraded ?? false
  if (degraded || wasDegraded || routing.strategy === 'least-busy') await store.batch([markGranted(store.db, d, { provider, degraded })])
  parts.notes.set(d.run, {
    granted: new Set(granted),
    bound: degraded ? bound : provider,
    moved: degraded,
    failed: undefined,
    probe: choice.probe && { provider, until: choice.probe.until, open: true },
    // Where there is nothing better, a session does not move: it goes back when its provider does.
    binding: degraded ? undefined : binding,
    degraded,
  })
}
