/**
 * One request of the CLI, to the first provider of its purse that answers it.
 *
 * Until the headers of a good answer another provider may be asked; from then on never, because the CLI has begun to
 * believe the first one. Which failure is passed on where none of them answered is for `last-word`.
 */
import type { ServerResponse } from 'node:http'
import type { Outcome, ProviderReport, Tokens } from '../../shared/grants.ts'
import type { Clock } from '../clock.ts'
import { attempt, type Ask, type Failed } from './attempt.ts'
import type { Breaker } from './breaker.ts'
import type { Dialler } from './dial.ts'
import { give, worthier, type Failure } from './last-word.ts'
import { NO_TOKENS, type Ledger } from './ledger.ts'
import { isStreamed, modelOf, modelsOf, withModel } from './model-field.ts'
import type { News } from './news.ts'
import { isProviders, retryAfterMs } from './outcome.ts'
import { passOn } from './pass-on.ts'
import type { Payer, Purse } from './purse.ts'
import { BUDGET_IS_SPENT, NOT_THAT_MODEL, refuse } from './refusal.ts'
import type { Route } from './routes.ts'

export interface Office {
  readonly clock: Clock
  readonly dialler: Dialler
  breaker(purse: Purse, payer: Payer): Breaker | undefined
}

export interface Turn {
  readonly purse: Purse
  readonly ledger: Ledger
  readonly news: News
  /** The CLI has gone, or its turn is over. */
  readonly signal: AbortSignal
}

/** Never rejects on account of a provider or the CLI. */
export async function forward(ask: Ask, route: Route, turn: Turn, response: ServerResponse, office: Office): Promise<void> {
  const { purse, ledger, signal } = turn
  const { maxBudgetUsd } = purse
  if (route === 'paid' && maxBudgetUsd !== undefined && ledger.hasSpent(maxBudgetUsd)) {
    return refuse(response, 402, 'billing_error', `${BUDGET_IS_SPENT} (${maxBudgetUsd} USD by the price list)`)
  }
  const asked = modelOf(ask.body)
  const allowed = ask.method === 'GET' ? purse.payers : allowedBy(purse, ask.body)
  if (allowed.length === 0) {
    const what = asked === null ? 'a request without a model' : `the model ${asked.slice(0, 128)}`
    return refuse(response, 403, 'permission_error', `${NOT_THAT_MODEL} ${what}`)
  }
  ledger.asked()
  const streamed = isStreamed(ask.body)
  let failed: Failure | undefined
  for (const [at, payer] of candidates(purse, allowed, asked, office).entries()) {
    const rename = (model: string) => mapped(payer, model)
    const model = asked === null ? null : rename(asked)
    const own = model === asked ? ask : { ...ask, body: withModel(ask.body, rename) }
    const dispatcher = office.dialler.of(payer.mayBePrivate)
    const tell = (telling: Telling) => route === 'paid' && settle(office, turn, payer, model, telling)
    const lost = (least: Tokens, receivedBytes: number) => ledger.lost(payer, model, { least, sentBytes: ask.body.length, receivedBytes })
    const times = { timeoutMs: purse.headersTimeoutMs, stallMs: purse.stallMs }
    const got = await attempt(own, payer, { dispatcher, model, ...times, signal })
    if (got.kind === 'stream') {
      const { status, latencyMs } = got
      ledger.answered(payer, at > 0)
      tell({ stage: 'headers', outcome: 'ok', status, latencyMs })
      const { outcome, tokens, account, bytes } = await passOn(got, response, signal)
      if (route === 'paid' && account === 'whole') ledger.paid(payer, model, tokens ?? NO_TOKENS)
      if (route === 'paid' && account === 'lost') lost(tokens ?? NO_TOKENS, bytes)
      tell({ stage: 'end', outcome, status, latencyMs, tokens })
      return
    }
    const isSlow = got.kind === 'none' && got.outcome === 'timeout'
    // It had the whole request, and may be at work on an answer that it will bill.
    if (route === 'paid' && (isSlow || got.outcome === 'cancelled')) lost(NO_TOKENS, 0)
    // An answer in one piece has its headers when it is done: how long a tool lets a model write is no fault of a provider.
    const outcome = isSlow && !streamed ? 'caller' : got.outcome
    tell({ stage: 'end', ...got, outcome, retryAfterMs: waitOf(got, office) })
    if (got.outcome === 'cancelled') return
    if (!isProviders(got.outcome)) {
      ledger.answered(payer, at > 0)
      return give(response, { payer, got })
    }
    failed = worthier(failed, { payer, got })
  }
  if (failed) give(response, failed)
}

/** Who may be asked for all that some reader of the body may take for its model. */
function allowedBy({ payers }: Purse, body: Uint8Array): readonly Payer[] {
  const names = modelsOf(body)
  return payers.filter(({ mayAsk }) => (names.length > 0 ? names.every(mayAsk) : mayAsk('')))
}

function mapped({ modelMap }: Payer, model: string): string {
  return (Object.hasOwn(modelMap, model) ? modelMap[model] : undefined) ?? model
}

/** In the order of the grant, without those whose breaker is open; all of them where that leaves none. */
function candidates(purse: Purse, allowed: readonly Payer[], asked: string | null, office: Office): readonly Payer[] {
  const now = office.clock.now()
  const closed = allowed.filter((payer) => {
    const model = asked === null ? null : mapped(payer, asked)
    return office.breaker(purse, payer)?.isOpen(model, now, payer === purse.payers[0]) !== true
  })
  return closed.length > 0 ? closed : allowed
}

function waitOf(got: Failed, { clock }: Office): number | null {
  return got.kind === 'error' ? retryAfterMs(got.retryAfter, clock.wall()) : null
}

type Telling = {
  readonly stage: ProviderReport['stage']
  readonly outcome: Outcome
  readonly status: number | null
  readonly latencyMs: number | null
  readonly retryAfterMs?: number | null
  readonly tokens?: Tokens | null
}

function settle(office: Office, { purse, news }: Turn, payer: Payer, model: string | null, telling: Telling): void {
  const { stage, outcome, status, latencyMs, retryAfterMs: waitMs = null, tokens = null } = telling
  const { run, fence, account } = purse
  if (isProviders(outcome)) news.failed(run, payer.provider, outcome, status)
  if (!account) return
  if (stage === 'end') office.breaker(purse, payer)?.saw(outcome, { model, retryAfterMs: waitMs }, account, office.clock.now())
  const latency_ms = latencyMs === null ? null : Math.round(latencyMs)
  const about = { run, fence, stage, provider: payer.provider, version: payer.version, model: model === null ? null : model.slice(0, 128) }
  news.report({ ...about, outcome, status, retry_after_ms: waitMs, latency_ms, tokens })
}
