/**
 * One request to one provider, up to its headers; of an error its body as well, so that the next provider can be asked
 * before the CLI has seen anything. What follows from the outcome is the caller's to decide.
 */
import { request, type Dispatcher } from 'undici'
import type { Outcome } from '../../shared/grants.ts'
import { requestHeaders, responseHeaders, type HeaderMap } from './headers.ts'
import { outcomeOf, outcomeOfError } from './outcome.ts'
import type { Payer } from './purse.ts'

export interface Ask {
  readonly method: string
  /** Path and query, to be put behind those of a base URL. */
  readonly path: string
  readonly headers: HeaderMap
  readonly body: Uint8Array
  /** What the CLI proved itself with. */
  readonly token: string
}

type Headers = Record<string, string | string[]>

type Answered = { readonly status: number; readonly headers: Headers; readonly latencyMs: number }

/** The body of a good answer is still to come. */
export type Begun = Answered & { readonly kind: 'stream'; readonly body: AsyncIterable<Uint8Array> }
type Refused = Answered & { readonly kind: 'error'; readonly retryAfter: HeaderMap[string]; readonly body: Uint8Array }
/** There was no answer, and `message` says why. */
type Silent = { readonly kind: 'none'; readonly status: null; readonly latencyMs: null; readonly message: string }
export type Failed = (Refused | Silent) & { readonly outcome: Outcome }

export interface AttemptOptions {
  readonly dispatcher: Dispatcher
  readonly model: string | null
  readonly timeoutMs: number
  readonly stallMs: number
  /** The CLI has gone, or its turn is over. */
  readonly signal: AbortSignal
}

/** Errors of an API are a few hundred bytes; of a proxy before it, a page. */
const ERROR_BYTES = 1024 * 1024
const ERROR_BODY_MS = 5_000

export async function attempt(ask: Ask, payer: Payer, options: AttemptOptions): Promise<Begun | Failed> {
  const began = performance.now()
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), options.timeoutMs)
  try {
    const { statusCode, headers, body } = await request(target(payer.baseUrl, ask.path), {
      dispatcher: options.dispatcher,
      method: ask.method,
      headers: requestHeaders(ask.headers, payer.headers, ask.token),
      ...(ask.body.length > 0 ? { body: ask.body } : {}),
      bodyTimeout: options.stallMs,
      signal: AbortSignal.any([options.signal, late.signal]),
    })
    clearTimeout(timer)
    const latencyMs = performance.now() - began
    const kept = responseHeaders(headers, payer.secrets)
    const outcome = outcomeOf(statusCode, options.model !== null)
    if (outcome === 'ok') return { kind: 'stream', status: statusCode, headers: kept, body, latencyMs }
    const stop = setTimeout(() => late.abort(), ERROR_BODY_MS)
    const text = redacted(await beginning(body), payer.secrets)
    clearTimeout(stop)
    const retryAfter = headers['retry-after']
    return { kind: 'error', outcome, status: statusCode, headers: kept, retryAfter, body: text, latencyMs }
  } catch (error) {
    clearTimeout(timer)
    if (options.signal.aborted) return none('cancelled', 'the CLI has gone')
    if (late.signal.aborted) return none('timeout', `gave no answer within ${options.timeoutMs} ms`)
    return none(outcomeOfError(error), reason(error))
  }
}

function none(outcome: Outcome, message: string): Failed {
  return { kind: 'none', outcome, status: null, message, latencyMs: null }
}

/** The path of a base URL comes first: `https://host/anthropic` + `/v1/messages?beta=true`. */
export function target(base: URL, path: string): string {
  return `${base.origin}${base.pathname.replace(/\/+$/, '')}${path}`
}

/** As much as is kept of it; one that breaks off is what came. */
async function beginning(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of body) {
      chunks.push(chunk.subarray(0, ERROR_BYTES - bytes))
      bytes += chunk.length
      if (bytes >= ERROR_BYTES) break
    }
  } catch {
    // The status is the answer; what it says besides is for people.
  }
  return Buffer.concat(chunks)
}

/** Some say which key they did not like, and what they say is stored and shown. */
function redacted(body: Buffer, secrets: readonly string[]): Uint8Array {
  const found = secrets.filter((secret) => secret !== '' && body.includes(secret))
  if (found.length === 0) return body
  return Buffer.from(found.reduce((text, secret) => text.replaceAll(secret, '[redacted]'), body.toString('utf8')))
}

/** undici and Node put what happened into `code`, at times of a cause or of the first of several tries. */
function reason(error: unknown): string {
  const inner = error instanceof AggregateError ? (error.errors as unknown[])[0] : error
  return inner instanceof Error && inner.message !== '' ? inner.message : String(inner)
}
