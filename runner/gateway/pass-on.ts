/** The good answer of a provider on its way to the CLI: byte for byte, as fast as the CLI takes it, and counted. */
import type { ServerResponse } from 'node:http'
import type { Outcome, Tokens } from '../../shared/grants.ts'
import { write } from '../demo/messages-sse.ts'
import type { Begun } from './attempt.ts'
import { outcomeOfError } from './outcome.ts'
import { meter } from './usage.ts'

export interface Passed {
  readonly outcome: Outcome
  /** As far as it said. */
  readonly tokens: Tokens | null
  /** `whole`: the tokens are all there are. `error`: one came in place of an answer. `lost`: what it costs is not known. */
  readonly account: 'whole' | 'error' | 'lost'
  readonly bytes: number
}

export async function passOn(got: Begun, response: ServerResponse, signal: AbortSignal): Promise<Passed> {
  const read = meter(String(got.headers['content-type'] ?? ''))
  response.writeHead(got.status, got.headers)
  response.flushHeaders()
  let broken: Outcome | undefined
  let bytes = 0
  try {
    for await (const chunk of got.body) {
      bytes += chunk.length
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
  const { tokens, trouble, complete, hasTotal } = read
  const isError = trouble !== undefined && tokens === null
  const account = isError ? 'error' : tokens && hasTotal ? 'whole' : 'lost'
  return { outcome: trouble ?? (complete ? 'ok' : (broken ?? 'ok')), tokens, account, bytes }
}
