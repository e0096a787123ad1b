/**
 * What of one run is told to the router and to the log, and how often: any tool of a run can make a hundred requests a
 * second fail. Beyond the limit a failure is dropped, as breakers have heard enough by then; tokens are kept and told later.
 */
import type { ProviderReport, Tokens } from '../../shared/grants.ts'
import type { Clock } from '../clock.ts'
import { addTokens, NO_TOKENS } from './ledger.ts'

export interface Listener {
  report(report: ProviderReport): void
  log(message: string, fields: Record<string, unknown>): void
}

/** A busy run with ten subagents makes two or three. */
const REPORTS_PER_S = 20
const LOG_EVERY_MS = 10_000

export class News {
  readonly #listener: Listener
  readonly #clock: Clock
  #windowAt = -Infinity
  #inWindow = 0
  /** Of each provider and version, in a report that blames nobody. */
  readonly #untold = new Map<string, ProviderReport & { readonly tokens: Tokens }>()
  readonly #loggedAt = new Map<string, number>()

  constructor(listener: Listener, clock: Clock) {
    this.#listener = listener
    this.#clock = clock
  }

  report(report: ProviderReport): void {
    const key = `${report.provider}/${report.version}`
    if (!this.#hasRoom()) {
      if (report.tokens) this.#keep(key, report, report.tokens)
      return
    }
    const kept = report.stage === 'end' ? this.#untold.get(key) : undefined
    if (kept) this.#untold.delete(key)
    this.#listener.report(kept ? { ...report, tokens: addTokens(kept.tokens, report.tokens ?? NO_TOKENS) } : report)
  }

  failed(run: string, provider: string, outcome: string, status: number | null): void {
    const key = `${provider}/${outcome}`
    const now = this.#clock.now()
    if (now < (this.#loggedAt.get(key) ?? -Infinity) + LOG_EVERY_MS) return
    this.#loggedAt.set(key, now)
    this.#listener.log('a provider did not answer a request', { run, provider, outcome, status })
  }

  /** At the end of the turn. */
  flush(): void {
    for (const report of this.#untold.values()) this.#listener.report(report)
    this.#untold.clear()
  }

  #hasRoom(): boolean {
    const now = this.#clock.now()
    if (now >= this.#windowAt + 1_000) {
      this.#windowAt = now
      this.#inWindow = 0
    }
    return this.#inWindow++ < REPORTS_PER_S
  }

  #keep(key: string, report: ProviderReport, tokens: Tokens): void {
    const known = this.#untold.get(key)?.tokens ?? NO_TOKENS
    const nobodys = { stage: 'end', model: null, outcome: 'cancelled', status: null, retry_after_ms: null, latency_ms: null } as const
    this.#untold.set(key, { ...report, ...nobodys, tokens: addTokens(known, tokens) })
  }
}
