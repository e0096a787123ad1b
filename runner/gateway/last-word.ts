/** What the CLI is told when nobody has answered it: which of several failures, and in which words. */
import type { ServerResponse } from 'node:http'
import { errorBody } from '../demo/messages-sse.ts'
import type { Failed } from './attempt.ts'
import type { Payer } from './purse.ts'

export interface Failure {
  readonly payer: Payer
  readonly got: Failed
}

/**
 * The later one, but never less of a word: an answer tells more than silence, and what one account has not got says nothing
 * of why all the others failed.
 */
export function worthier(earlier: Failure | undefined, later: Failure): Failure {
  if (!earlier) return later
  const [before, after] = [weight(earlier.got), weight(later.got)]
  return after > before || (after === before && after !== LACKS) ? later : earlier
}

const LACKS = 1

function weight({ kind, outcome }: Failed): number {
  if (outcome === 'refused_url') return 0
  if (outcome === 'not_found' || outcome === 'forbidden') return LACKS
  return kind === 'none' ? 2 : 3
}

/** Nothing of an answer has been written yet. */
export function give(response: ServerResponse, { payer, got }: Failure): void {
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

/** 400: it could not even be sent. 504 and 523 are what a gateway says of an origin that is too slow or out of reach; the classes of errors follow them. */
function statusFor(got: Failed): number {
  if (got.kind === 'error') return 502
  if (got.outcome === 'caller') return 400
  return got.outcome === 'timeout' ? 504 : 523
}
