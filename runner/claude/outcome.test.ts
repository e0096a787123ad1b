import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { TurnResult, type RunErrorCode } from '../../shared/marks.ts'
import { recordings, type Recording } from '../../test/fixtures/cli/recorded.ts'
import { noteSigns, turnResult, type Signs } from './outcome.ts'
import { CliResult, readOutput } from './output.ts'

const CODES: Record<string, RunErrorCode | undefined> = {
  text: undefined,
  partial: undefined,
  'tool-call': undefined,
  'tool-denied': undefined,
  'status-400': 'invalid_request',
  'status-401': 'provider_auth',
  'status-402': 'provider_auth',
  'status-403': 'provider_auth',
  'status-404': 'model_not_found',
  'status-413': 'invalid_request',
  'status-429': 'rate_limited',
  'status-500': 'provider_error',
  'status-529': 'overloaded',
  'overloaded-in-mid-stream': 'overloaded',
  'prompt-too-long': 'invalid_request',
  unreachable: 'provider_unreachable',
  timeout: 'provider_timeout',
  'not-logged-in': 'provider_auth',
  refusal: 'refused',
  'max-output-tokens': 'max_output_tokens',
  'max-turns': 'max_turns',
  'max-budget': 'max_budget',
  'structured-output': 'structured_output',
  'interrupt-answer': 'cancelled',
  'interrupt-tool': 'cancelled',
  'unknown-session': 'cli_error',
}

function outcome({ lines }: Recording): TurnResult {
  let signs: Signs = {}
  for (const line of lines) {
    const output = readOutput(line)
    if (output.kind !== 'event' || !output.news) continue
    if (output.news.type === 'result') return turnResult(1, output.news.result, signs)
    signs = noteSigns(signs, output.news)
  }
  throw new Error('the recording has no result')
}

const result = (fields: object): CliResult => CliResult.parse({ is_error: true, subtype: 'success', ...fields })

describe('the outcome of a turn', () => {
  it.each(recordings())('of $name ($version) has its code', (recording) => {
    const { is_error, error } = outcome(recording)
    expect(Object.keys(CODES)).toContain(recording.name)
    expect(error?.code).toBe(CODES[recording.name])
    expect(is_error).toBe(error !== undefined)
  })

  it('is decided by is_error, whatever the subtype says', () => {
    const fine = result({ is_error: false, subtype: 'error_max_turns' })
    expect(turnResult(7, fine, { category: 'rate_limit' })).not.toHaveProperty('error')
    expect(turnResult(7, result({ subtype: 'success' }), {})).toMatchObject({ seq: 7, error: { code: 'cli_error' } })
  })

  it.each([
    ['API Error: Repeated 529 Overloaded errors', {}, 'overloaded'],
    ['API Error: Unable to connect to API (FailedToOpenSocket)', { category: 'server_error' }, 'provider_unreachable'],
    ["You've hit your session limit · resets 3pm", { category: 'rate_limit' }, 'rate_limited'],
    ['something new', { category: 'server_error' }, 'provider_error'],
    ['something new', { category: 'unknown', retryStatus: 529 }, 'overloaded'],
    ['something new', { category: 'unknown', retryStatus: null }, 'cli_error'],
  ] as const)('without a status goes by text, category and retries: %s', (text, signs, code) => {
    expect(turnResult(1, result({ result: text }), signs).error).toEqual({ code, message: text })
  })

  it.each([
    [402, 'API Error: 402 the budget of this run is spent (1 USD by the price list)', 'max_budget'],
    [402, 'API Error: 402 no credit', 'provider_auth'],
    [403, 'API Error: 403 no provider of this run may be asked for the model x', 'model_not_found'],
    [403, 'API Error: 403 the budget of this run is spent', 'provider_auth'],
  ] as const)('tells the gateway’s own %d from that of a provider: %s', (api_error_status, text, code) => {
    expect(turnResult(1, result({ result: text, api_error_status }), {}).error).toEqual({ code, message: text })
  })

  it('is valid for the wire whatever the CLI prints', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...Object.keys(CliResult.shape), 'x'), fc.jsonValue()), (fields) => {
        const output = readOutput(Buffer.from(JSON.stringify({ ...fields, type: 'result' })))
        if (output.kind !== 'event' || output.news?.type !== 'result') throw new Error('it was not read')
        expect(TurnResult.safeParse(turnResult(1, output.news.result, {})).success).toBe(true)
      }),
    )
  })
})
