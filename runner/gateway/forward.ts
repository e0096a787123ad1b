/**
 * One request of the CLI, to the first provider of its purse that answers it.
 *
 * Until the headers of a good answer another provider may be asked; from then on never, because the CLI has begun to
 * believe the first one. What none of them answered is passed on as the last of them said it.
 */
import type { ServerResponse } from 'node:http'
import type { Outcome, ProviderReport, Tokens } from '../../shared/grants.ts'
import type { Clock } from '../clock.ts'
import { errorBody, write } from '../demo/messages-sse.ts'
import { attempt, type Ask, type Begun, type Failed } from './attempt.ts'
import type { Breaker } from './breaker.ts'
import type { Dialler } from './dial.ts'
import type { Ledger } from './ledger.ts'
import { modelOf, withModel } from './model-field.ts'
import { isProviders, outcomeOfError, retryAfterMs } from './outcome.ts'
import type { Payer, Purse } from './purse.ts'
import { meter } from './usage.ts'

export interface Office {
  readonly clock: Clock
  readonly dialler: Dialler
  breaker(purse: Purse, payer: Payer): Breaker | undefined
  report(report: ProviderReport): void
  log(message: string, fields: Record<string, unknown>): void
}

export interface Turn {
  readonly purse: Purse
  readonly ledger: Ledger
  /** The CLI has gone, or its turn is over. */
  readonly signal: AbortSignal
}

type Ending = {
  readonly outcome: Outcome
  readonly status: number | null
  readonly latencyMs: number | null
  readonly retryAfterMs?: number | null
  readonly tokens?: Tokens | null
}

/** Never rejects on account of a provider or the CLI. */
export async function forward(ask: Ask, turn: Turn, response: ServerResponse, office: Office): Promise<void> {
  const { purse, ledger, signal } = turn
  const asked = modelOf(ask.body)
  ledger.asked()
  let failed: { payer: Payer; got: Failed } | undefined
  for (const [at, payer] of candidates(purse, asked, office).entries()) {
    const rename = (model: string) => payer.modelMap[model] ?? model
    const model = asked === null ? null : rename(asked)
    const mapped = model === asked ? ask : { ...ask, body: withModel(ask.body, rename) }
    const dispatcher = office.dialler.of(payer.mayBePrivate)
    const times = { timeoutMs: purse.headersTimeoutMs, stallMs: purse.stallMs }
    const got = await attempt(mapped, payer, { dispatcher, model, ...times, signal })
    const close = (ending: Ending) => settle(office, turn, payer, model, ending)
    if (got.kind === 'stream') {
      const { outcome, tokens, trouble } = await passOn(got, response, signal)
      // Only this route costs something, and an error that came in place of an answer does not.
      const free = !/^\/v1\/messages(?:\?|$)/.test(ask.path) || trouble
      ledger.answered(payer, model, tokens ?? (free ? NONE : null), at > 0)
      return close({ outcome, status: got.status, latencyMs: got.latencyMs, tokens })
    }
    close({
      outcome: got.outcome,
      status: got.status,
      latencyMs: got.latencyMs,
      retryAfterMs: got.kind === 'error' ? retryAfterMs(got.retryAfter, office.clock.wall()) : null,
    })
    if (got.outcome === 'cancelled') return
    // An answer of the last one that gave one tells more than the silence of those behind it.
    if (!failed || got.kind === 'error' || failed.got.kind === 'none') failed = { payer, got }
    if (isProviders(got.outcome)) continue
    ledger.answered(payer, model, NONE, at > 0)
    break
  }
  if (failed) give(response, failed.payer, failed.got)
}

const NONE: Tokens = { input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }

/** In the order of the grant, without those whose breaker is open; all of them where that leaves none. */
function candidates(purse: Purse, asked: string | null, office: Office): readonly Payer[] {
  const now = office.clock.now()
  const closed = purse.payers.filter((payer, at) => {
    const model = asked === null ? null : (payer.modelMap[asked] ?? asked)
    return office.breaker(purse, payer)?.isOpen(model, now, at === 0) !== true
  })
  return closed.length > 0 ? closed : purse.payers
}

function settle(office: Office, { purse }: Turn, payer: Payer, model: string | null, ending: Ending): void {
  const { outcome, status, latencyMs } = ending
  const waitMs = ending.retryAfterMs ?? null
  const { run, fence, account } = purse
  if (isProviders(outcome)) office.log('a provider did not answer a request', { run, provider: payer.provider, outcome, status })
  if (!account) return
  office.breaker(purse, payer)?.saw(outcome, { model, retryAfterMs: waitMs }, account, office.clock.now())
  const latency_ms = latencyMs === null ? null : Math.round(latencyMs)
  const about = { run, fence, stage: 'end' as const, provider: payer.provider, version: payer.version, model: model === null ? null : model.slice(0, 128) }
  office.report({ ...about, outcome, status, retry_after_ms: waitMs, latency_ms, tokens: ending.tokens ?? null })
}

type Passed = { readonly outcome: Outcome; readonly tokens: Tokens | null; readonly trouble: boolean }

/** Byte for byte, as fast as the CLI takes it. */
async function passOn(got: Begun, response: ServerResponse, signal: AbortSignal): Promise<Passed> {
  const read = meter(String(got.headers['content-type'] ?? ''))
  response.writeHead(got.status, got.headers)
  response.flushHeaders()
  let broken: Outcome | undefined
  try {
    for await (const chunk of got.body) {
      read.push(chunk)
      await write(response, chunk)
    }
    response.end()
  } catch (error) {
    broken = signal.aborted ? 'cancelled' : outcomeOfError(error)
    // A stream that ended in order would pass for a whole answer.
    response.destroy()
  }
  read.end()
  const { tokens, trouble, complete } = read
  return { outcome: trouble ?? (complete ? 'ok' : (broken ?? 'ok')), tokens, trouble: trouble !== undefined }
}

function give(response: ServerResponse, payer: Payer, got: Failed): void {
  if (got.kind === 'error' && got.status >= 400) {
    // Nothing of it may be left out of its length.
    response.writeHead(got.status, { ...got.headers, 'content-length': String(got.body.length) })
    response.end(got.body)
    return
  }
  const message = got.kind === 'error' ? `answered with a redirect (${got.status}), which is not followed` : got.message
  const body = JSON.stringify(errorBody('api_error', `provider ${payer.provider}: ${message}`))
  // Of what no retry can change.
  const final = got.outcome === 'refused_url' ? { 'x-should-retry': 'false' } : {}
  const headers = { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }
  response.writeHead(statusFor(got), { ...headers, ...final })
  response.end(body)
}

/** 504 and 523 are what a gateway says of an origin that is too slow or out of reach; the classes of errors follow them. */
function statusFor(got: Failed): number {
  if (got.kind === 'error') return 502
  return got.outcome === 'timeout' ? 504 : 523
}
