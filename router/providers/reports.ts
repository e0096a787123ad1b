/**
 * What gateways report, brought to the breakers, the counts and the bindings of sessions.
 *
 * Counts are kept here for a second at most, so that a busy provider does not cost a write for each of its requests. What
 * moves a breaker is written at once, a page at a time: between two pages everything else has its turn, as a database of
 * this process answers without ever letting go of it, and a tool can have its gateway report as fast as it likes.
 */
import type { ProviderReport } from '../../shared/grants.ts'
import { routingOf } from '../../shared/tenant-settings.ts'
import { isProviders, verdictOf } from '../core/breaker.ts'
import { moveSession } from '../store/bindings.ts'
import { addTally, handOnProbe, type HealthRow } from '../store/provider-health.ts'
import type { TreasuryParts } from './parts.ts'
import type { RunNotes } from './run-notes.ts'
import { Steps } from './steps.ts'
import { addRequest, NO_TALLY, type Tally } from './tally.ts'

const FLUSH_MS = 1_000
/** Of one tenant: more is not heard. */
const MAX_WAITING = 1_000
/** What one run may say of breakers in a second; far more than a breaker needs to hear. */
const MAX_PER_RUN = 100
const PAGE = 50
/** Providers that are counted at once. */
const MAX_SUMS = 10_000

/** `over`: the run will say nothing more. */
type Word = { readonly is: 'report'; readonly report: ProviderReport } | { readonly is: 'over'; readonly run: string }
type Summed = { readonly tenant: string; readonly provider: string; tally: Tally }

/** A macrotask: timers and sockets come in between, which they do not between promises. */
const othersTurn = () => new Promise<void>((resolve) => void setTimeout(resolve, 0))

export class Reports {
  readonly #parts: TreasuryParts
  readonly #notes: RunNotes
  /** One after the other for each tenant: what comes in a row is told from what does not by its order. */
  readonly #queues = new Map<string, Word[]>()
  readonly #drains = new Set<Promise<void>>()
  #second = 0
  /** In this second, of each run. */
  readonly #heard = new Map<string, number>()
  #sums = new Map<string, Summed>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(parts: TreasuryParts, notes: RunNotes) {
    this.#parts = parts
    this.#notes = notes
  }

  /** Never throws, and keeps nobody waiting. */
  take(tenant: string, report: ProviderReport): void {
    const granted = this.#notes.get(report.run)?.granted
    if (granted && !granted.has(report.provider)) return
    if (report.stage === 'end') this.#sum(tenant, report)
    if (!this.#mayBeHeard(report.run)) return
    this.#queue(tenant, { is: 'report', report })
  }

  /** What the run was to try and did not is for the next one to try. */
  over(tenant: string, run: string): void {
    if (this.#notes.get(run)?.probe?.open) this.#queue(tenant, { is: 'over', run })
  }

  async settled(): Promise<void> {
    while (this.#drains.size > 0) await Promise.all(this.#drains)
    await this.#flush()
  }

  #mayBeHeard(run: string): boolean {
    const second = Math.floor(this.#parts.platform.now() / 1_000)
    if (second !== this.#second) this.#heard.clear()
    this.#second = second
    const heard = this.#heard.get(run) ?? 0
    if (heard < MAX_PER_RUN) this.#heard.set(run, heard + 1)
    return heard < MAX_PER_RUN
  }

  #queue(tenant: string, word: Word): void {
    const queue = this.#queues.get(tenant)
    if (queue) return void (queue.length < MAX_WAITING && queue.push(word))
    const words = [word]
    this.#queues.set(tenant, words)
    const drain: Promise<void> = this.#drain(tenant, words).finally(() => this.#drains.delete(drain))
    this.#drains.add(drain)
    this.#parts.platform.background(drain)
  }

  async #drain(tenant: string, words: Word[]): Promise<void> {
    await othersTurn()
    while (words.length > 0) {
      try {
        await this.#settle(tenant, words.splice(0, PAGE))
      } catch (error) {
        this.#parts.log.warn({ err: error, tenant }, 'a report about a provider was lost')
      }
      await othersTurn()
    }
    this.#queues.delete(tenant)
  }

  async #settle(tenant: string, page: readonly Word[]): Promise<void> {
    const catalog = this.#parts.catalog()
    const routing = routingOf((await catalog.tenant(tenant))?.settings ?? {})
    const [providers, health] = await Promise.all([catalog.providers(tenant), catalog.health(tenant)])
    const now = this.#parts.platform.now()
    const { db } = this.#parts.store()
    const steps = new Steps({ routing, health, now })
    const handedOn = []
    const answered: ProviderReport[] = []
    for (const word of page) {
      const { run } = word.is === 'over' ? word : word.report
      const note = this.#notes.get(run)
      if (word.is === 'over') {
        if (note?.probe?.open) handedOn.push(handOnProbe(db, tenant, note.probe.provider, note.probe.until))
        if (note) note.probe = undefined
        continue
      }
      const { report } = word
      // Versions only grow. The database has the last word: what is known here may be older.
      if (providers.some(({ id, version }) => id === report.provider && version > report.version)) continue
      const verdict = verdictOf(report, routing, now)
      const claim = note?.probe?.provider === report.provider ? note.probe : undefined
      if (note?.bound === report.provider && verdict.is !== 'ok' && verdict.is !== 'nothing') {
        note.failed = isProviders(report.outcome) ? 'wholly' : (note.failed ?? 'a_model')
      }
      steps.add(tenant, report, claim?.until)
      if (verdict.is === 'ok') answered.push(report)
      if (!note || !claim || verdict.is === 'nothing') continue
      // It may have claimed more than it has tried by this: a model that it did not ask for, or the provider besides its model.
      if (claim.open) handedOn.push(handOnProbe(db, tenant, claim.provider, claim.until))
      claim.open = false
      if (verdict.is !== 'ok') note.probe = undefined
    }
    const statements = [...steps.statements(db), ...handedOn]
    if (statements.length > 0) {
      await this.#parts.store().batch(statements)
      catalog.changed(tenant, 'health')
    }
    for (const report of answered) await this.#move(tenant, report, health)
  }

  /** The session goes where its run found an answer, and stays there; not for the sake of one model that its provider has not got. */
  async #move(tenant: string, { run, provider }: ProviderReport, health: readonly HealthRow[]): Promise<void> {
    const note = this.#notes.get(run) ?? this.#notes.set(run, this.#notes.forgotten())
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
    if (this.#sums.size >= MAX_SUMS && !this.#sums.has(key)) return
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
        if (i > 0) await othersTurn()
        const store = this.#parts.store()
        await store.batch(sums.slice(i, i + PAGE).map(({ tally, ...place }) => addTally(store.db, place, tally, now)))
      }
    } catch (error) {
      // An error does not prove that nothing was written, and what was counted twice would be wrong for ever.
      this.#parts.log.warn({ err: error }, 'counts of providers were lost')
    }
  }
}
