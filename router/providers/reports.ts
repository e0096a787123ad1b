/**
 * What gateways report, brought to the breakers, the counts and the bindings of sessions.
 *
 * What matters to others is written at once. A success of a provider that is well changes nothing but sums, which are kept
 * here for a second at most, so that a busy provider does not cost a write for each of its requests.
 */
import type { ProviderReport } from '../../shared/grants.ts'
import { routingOf } from '../../shared/tenant-settings.ts'
import { isProviders, verdictOf } from '../core/breaker.ts'
import type { Statement } from '../ports.ts'
import { moveSession } from '../store/bindings.ts'
import { addTally, countFailed, recordFailure, recordOpening, recordSuccess, type HealthRow } from '../store/provider-health.ts'
import type { TreasuryParts } from './parts.ts'
import type { RunNotes } from './run-notes.ts'
import { addRequest, NO_TALLY, type Tally } from './tally.ts'

const FLUSH_MS = 1_000
/** A runner that reports faster than the database writes is not heard for a while. */
const MAX_WAITING = 1_000
const PAGE = 50

const NOT_SERVED = new Set(['forbidden', 'not_found', 'refused_url'])

type Summed = { readonly tenant: string; readonly provider: string; tally: Tally }

export class Reports {
  readonly #parts: TreasuryParts
  readonly #notes: RunNotes
  /** One after the other for each tenant: what comes in a row is told from what does not by its order. */
  readonly #chains = new Map<string, { waiting: number; last: Promise<void> }>()
  #sums = new Map<string, Summed>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(parts: TreasuryParts, notes: RunNotes) {
    this.#parts = parts
    this.#notes = notes
  }

  /** Never throws, and keeps nobody waiting. */
  take(tenant: string, report: ProviderReport): void {
    const { log, platform } = this.#parts
    const chain = this.#chains.get(tenant) ?? { waiting: 0, last: Promise.resolve() }
    if (chain.waiting >= MAX_WAITING) return
    chain.waiting++
    this.#chains.set(tenant, chain)
    chain.last = chain.last
      .then(() => this.#take(tenant, report))
      .catch((error: unknown) => log.warn({ err: error, tenant, provider: report.provider }, 'a report about a provider was lost'))
      .then(() => {
        if (--chain.waiting === 0) this.#chains.delete(tenant)
      })
    platform.background(chain.last)
  }

  async settled(): Promise<void> {
    while (this.#chains.size > 0) await Promise.all([...this.#chains.values()].map(({ last }) => last))
    await this.#flush()
  }

  async #take(tenant: string, report: ProviderReport): Promise<void> {
    const { provider, run } = report
    const note = this.#notes.get(run)
    if (note?.granted && !note.granted.has(provider)) return
    const catalog = this.#parts.catalog()
    const now = this.#parts.platform.now()
    const routing = routingOf((await catalog.tenant(tenant))?.settings ?? {})
    const { db } = this.#parts.store()
    const verdict = verdictOf(report, routing, now)
    const place = { tenant, provider, model: report.model ?? '' }
    const probeUntil = note?.probe?.provider === provider ? note.probe.until : undefined
    if (note?.bound === provider && verdict.is !== 'ok' && verdict.is !== 'nothing') {
      note.failed = isProviders(report.outcome) ? 'wholly' : (note.failed ?? 'a_model')
    }
    switch (verdict.is) {
      case 'nothing':
        // Refused by the provider, or for a model that has no name: not its fault, and not a success either.
        if (NOT_SERVED.has(report.outcome)) await this.#write(tenant, [countFailed(db, place, now)])
        else this.#sum(tenant, report)
        break
      case 'ok': {
        this.#sum(tenant, report)
        const health = await catalog.health(tenant)
        if (health.some((row) => isTroubled(row, place))) await this.#write(tenant, recordSuccess(db, place, { probeUntil }, now))
        await this.#move(tenant, report, health)
        break
      }
      case 'counts': {
        const until = now + routing.recovery_s * 1_000
        await this.#write(tenant, [recordFailure(db, place, { threshold: routing.failure_threshold, until, reason: verdict.reason, probeUntil }, now)])
        break
      }
      case 'opens':
        await this.#write(tenant, recordOpening(db, { ...place, model: verdict.model }, verdict, now))
        break
    }
  }

  async #write(tenant: string, statements: Statement[]): Promise<void> {
    await this.#parts.store().batch(statements)
    this.#parts.catalog().changed(tenant)
  }

  /** The session goes where its run found an answer, and stays there; not for the sake of one model that its provider has not got. */
  async #move(tenant: string, { run, provider }: ProviderReport, health: readonly HealthRow[]): Promise<void> {
    const note = this.#notes.get(run) ?? this.#notes.set(run, { granted: undefined, bound: undefined, moved: false, failed: undefined, probe: undefined, degraded: false })
    if (note.moved || note.bound === provider) return
    const bound = note.bound
    const lacksModels = note.failed === 'a_model' || health.some((row) => row.provider === bound && row.model !== '' && row.state !== 'closed')
    if (bound !== undefined && note.failed !== 'wholly' && lacksModels) return
    note.moved = true
    await moveSession(this.#parts.store().db, tenant, run, provider)
  }

  #sum(tenant: string, report: ProviderReport): void {
    const { provider } = report
    const key = `${tenant}/${provider}`
    const summed = this.#sums.get(key) ?? { tenant, provider, tally: NO_TALLY }
    summed.tally = addRequest(summed.tally, report)
    this.#sums.set(key, summed)
    this.#timer ??= setTimeout(() => this.#parts.platform.background(this.#flush()), FLUSH_MS)
  }

  async #flush(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const sums = [...this.#sums.values()]
    this.#sums = new Map()
    const now = this.#parts.platform.now()
    try {
      for (let i = 0; i < sums.length; i += PAGE) {
        const store = this.#parts.store()
        await store.batch(sums.slice(i, i + PAGE).map(({ tally, ...place }) => addTally(store.db, place, tally, now)))
      }
    } catch (error) {
      // An error does not prove that nothing was written, and what was counted twice would be wrong for ever.
      this.#parts.log.warn({ err: error }, 'counts of providers were lost')
    }
  }
}

/** Something of this would be changed by a success. */
function isTroubled(row: HealthRow, { provider, model }: { provider: string; model: string }): boolean {
  return row.provider === provider && (row.model === '' || row.model === model) && (row.state !== 'closed' || row.failures > 0)
}
