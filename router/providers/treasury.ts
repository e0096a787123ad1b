/**
 * What runs pay for their tokens with: for each offer the providers that it may use, in order, with their keys sealed to
 * its runner; and what becomes of what the gateways report.
 *
 * It keeps plain data between calls and nothing that belongs to a request, so that a host may keep one for as long as it likes.
 */
import { Fault } from '../../shared/faults.ts'
import type { Grant, Grants, ProviderReport } from '../../shared/grants.ts'
import { routingOf, type Routing } from '../../shared/tenant-settings.ts'
import { standingOf } from '../core/breaker.ts'
import { fitting, lineUp } from '../core/provider-choice.ts'
import type { Dispatch, RunnerIdentity, Treasury } from '../ports.ts'
import { bindStatement, boundProvider } from '../store/bindings.ts'
import { markGranted } from '../store/granted.ts'
import { handOnProbe, type HealthRow } from '../store/provider-health.ts'
import type { ProviderRow } from '../store/providers.ts'
import { choose, type Choice } from './choose.ts'
import { openKey } from './keys.ts'
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
    grants: (d, to) => grantsFor({ ...parts, notes, runners, later }, d, to),
    report: (tenant: string, report: ProviderReport) => reports.take(tenant, report),
    async settled() {
      await Promise.all(writing)
      await reports.settled()
    },
  }
}

type Parts = TreasuryParts & { readonly notes: RunNotes; readonly runners: SealingKeys; readonly later: (work: Promise<unknown>) => void }

async function grantsFor(parts: Parts, d: Dispatch, to: RunnerIdentity): Promise<Grants | undefined> {
  const catalog = parts.catalog()
  const rows = await catalog.providers(d.tenant)
  if (rows.length === 0) return undefined
  const { db } = parts.store()
  const now = parts.platform.now()
  const { mode, id: session } = d.spec.session
  const before = parts.notes.get(d.run)
  const [tenant, bound] = await Promise.all([
    catalog.tenant(d.tenant),
    mode === 'new' ? undefined : boundProvider(db, d.tenant, session, now),
    // Offered before, and refused: whoever is next may try what it was to try.
    before?.probe && handOnProbe(db, d.tenant, before.probe.provider, before.probe.until),
  ])
  if (before?.probe) catalog.changed(d.tenant)
  const routing = routingOf(tenant?.settings ?? {})
  const health = await catalog.health(d.tenant)
  const apis = await sealedKeys(parts, d, to, fitting(rows, to.pool, d.spec.model))
  const fit = [...apis.keys()]
  // The turn is drawn last, so that offers leave in the order of their turns.
  const choice = await choose(parts, { d, fit, health, routing, bound, now })
  const { first, taken, turn, probe } = choice
  const line = lineUp(first, fit, health, { now, model: d.spec.model, taken, failover: routing.failover, turn })
  await note(parts, d, { choice, routing, bound, now, session, granted: line.map((row) => row.id) })
  const recoveryMs = Math.round(routing.recovery_s * 1_000)
  return {
    providers: line.map((row) => {
      const api = apis.get(row)
      const open = openOf(health, row.id, row === first ? (probe?.models ?? []) : [], now, recoveryMs)
      return { provider: row.id, version: row.version, models: row.models, ...(api && { api }), env: row.env, model_map: row.modelMap, ...(row.prices && { prices: row.prices }), ...open }
    }),
    headers_timeout_ms: Math.round(routing.headers_timeout_s * 1_000),
    failure_threshold: routing.failure_threshold,
    recovery_ms: recoveryMs,
  }
}

/** Those that this run may use, with their keys sealed for it. One whose key cannot be opened is as good as not there. */
async function sealedKeys(parts: Parts, d: Dispatch, to: RunnerIdentity, fitted: ReturnType<typeof fitting<ProviderRow>>): Promise<Map<ProviderRow, Grant['api']>> {
  if (!fitted.ok) throw new Fault('unknown_provider', fitted.why)
  const apis = await Promise.all(fitted.fit.map((row) => sealed(parts, d, to, row)))
  const usable = fitted.fit.flatMap((row, i): [ProviderRow, Grant['api']][] => {
    const api = apis[i]
    return api === 'lost' ? [] : [[row, api]]
  })
  if (usable.length > 0) return new Map(usable)
  throw new Fault('unknown_provider', `the key of provider ${fitted.fit.map((row) => row.id).join(', ')} cannot be opened with the master key of this router`)
}

/** Undefined: the login of the machine. */
async function sealed(parts: Parts, { run }: Dispatch, { runner }: RunnerIdentity, row: ProviderRow): Promise<Grant['api'] | 'lost'> {
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

/**
 * What the gateway is to know of the breakers, in durations: clocks of machines differ. What this run was chosen to try is
 * not open for it; what is due and not its to try is, for as long as a breaker that has just opened.
 */
export function openOf(health: readonly HealthRow[], provider: string, probed: readonly string[], now: number, recoveryMs: number): Pick<Grant, 'open_ms' | 'open_models'> {
  const open = health.flatMap((row): [string, number | null][] => {
    const at = standingOf(row, now)
    if (row.provider !== provider || at.is === 'closed' || probed.includes(row.model)) return []
    return [[row.model, at.is === 'due' ? recoveryMs : at.until && at.until - now]]
  })
  const own = open.find(([model]) => model === '')
  const models = open.filter(([model]) => model !== '')
  return { ...(own && { open_ms: own[1] }), ...(models.length > 0 && { open_models: Object.fromEntries(models) }) }
}

type Noting = { choice: Choice; routing: Routing; bound: string | undefined; now: number; session: string; granted: string[] }

/** What the next run of the session, and who reads of this run, has to find. */
async function note(parts: Parts, d: Dispatch, { choice, routing, bound, now, session, granted }: Noting): Promise<void> {
  const store = parts.store()
  const provider = choice.first.id
  const degraded = choice.by === 'degraded'
  const binding = { session, tenant: d.tenant, provider, createdAt: now, expiresAt: now + routing.binding_ttl_s * 1_000 }
  // Nobody asks for it before this run is over, so its offer need not wait for it. Where there is nothing better, a session
  // does not move: it goes back when its provider does.
  if (!degraded) parts.later(store.batch([bindStatement(store.db, binding)]))
  const wasDegraded = parts.notes.get(d.run)?.degraded ?? false
  if (degraded || wasDegraded || routing.strategy === 'least-busy') await store.batch([markGranted(store.db, d, { provider, degraded })])
  parts.notes.set(d.run, {
    granted: new Set(granted),
    bound: degraded ? bound : provider,
    moved: degraded,
    failed: undefined,
    probe: choice.probe && { provider, until: choice.probe.until },
    degraded,
  })
}
