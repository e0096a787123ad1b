/**
 * What pays for one run, as the gateway holds it: opened keys and checked addresses, in the order in which they are asked.
 * It lives in the memory of this process and nowhere else.
 */
import type { Prices } from '../../shared/grants.ts'
import type { MayAsk } from './allowed.ts'

export interface Payer {
  readonly provider: string
  /** Of its key and address: another one is another provider to the breaker. */
  readonly version: number
  /** By the name that the CLI uses. */
  readonly mayAsk: MayAsk
  /** Without a query; requests add their path to its own. */
  readonly baseUrl: URL
  /** The key as the provider wants it, and what else it wants to see. They replace those of the same name. */
  readonly headers: Readonly<Record<string, string>>
  /** What must not be seen in an answer that quotes the request. */
  readonly secrets: readonly string[]
  readonly modelMap: Readonly<Record<string, string>>
  readonly prices?: Prices | undefined
  /** Whether its name may lead to an address that is not public. */
  readonly mayBePrivate: boolean
}

export interface Purse {
  readonly run: string
  readonly fence: number
  readonly tenant: string
  readonly session: string
  readonly payers: readonly [Payer, ...Payer[]]
  readonly headersTimeoutMs: number
  /** How long an answer that has begun may be silent. */
  readonly stallMs: number
  /** By the price lists of the payers: without one nothing is known to be spent. */
  readonly maxBudgetUsd?: number | undefined
  /** Absent for what is the machine's own: the router keeps no account of that. */
  readonly account?: { readonly failureThreshold: number; readonly recoveryMs: number } | undefined
}
