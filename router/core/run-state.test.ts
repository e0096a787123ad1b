import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RUN_STATES } from '../../drizzle/schema.ts'
import { ExitReason, RunErrorCode, type ExitMark, type TurnResult } from '../../shared/marks.ts'
import { endingOf, isTerminal, PUBLIC_STATUSES, publicStatus, statesOf, type Terminal } from './run-state.ts'

const usage = { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const good: TurnResult = { seq: 3, is_error: false, cost_usd: 0.1, usage, num_turns: 1 }
const overloaded: TurnResult = { ...good, is_error: true, error: { code: 'overloaded', message: '529' } }
const silent: TurnResult = { ...good, is_error: true }
const exit = (more: Partial<ExitMark>): ExitMark => ({ kind: 'exit', code: 0, signal: null, reason: 'completed', duration_ms: 5, ...more })

describe('how a run ends', () => {
  it.each<[string, ExitMark, boolean, Terminal, string | undefined]>([
    ['a result that is no error', exit({ result: good }), false, 'succeeded', undefined],
    ['a result that is no error, with an exit code', exit({ code: 1, result: good }), false, 'succeeded', undefined],
    ['a result that is an error, with exit code 0', exit({ result: overloaded }), false, 'failed', 'overloaded'],
    ['an error that nobody named', exit({ result: silent }), false, 'failed', 'cli_error'],
    ['no result at all', exit({}), false, 'failed', 'crashed'],
    ['a crash after its result', exit({ reason: 'crashed', signal: 'SIGSEGV', result: good }), false, 'failed', 'crashed'],
    ['the end of its time', exit({ reason: 'timeout' }), false, 'failed', 'timeout'],
    ['a full disk', exit({ reason: 'spool_full', result: good }), false, 'failed', 'spool_full'],
    ['a restart of the runner', exit({ reason: 'runner_restarted' }), false, 'failed', 'runner_restarted'],
    ['a cancel that we asked for', exit({ reason: 'cancelled' }), true, 'cancelled', 'cancelled'],
    ['a cancel that came too late', exit({ result: good }), true, 'cancelled', 'cancelled'],
    ['a cancel that the runner timed out on', exit({ reason: 'timeout' }), true, 'cancelled', 'cancelled'],
    ['a cancel that nobody asked for', exit({ reason: 'cancelled' }), false, 'failed', 'cancelled'],
    ['silence', exit({ reason: 'lost' }), false, 'lost', 'lost'],
    ['silence after a cancel', exit({ reason: 'lost' }), true, 'lost', 'lost'],
  ])('%s', (_what, mark, cancelled, state, code) => {
    const ending = endingOf(mark, cancelled)
    expect(ending).toMatchObject({ state, result: mark.result, durationMs: 5 })
    expect(ending.error?.code).toBe(code)
  })

  it('has an error with a code of the table and a message exactly when it did not succeed', () => {
    const results = fc.constantFrom(undefined, good, overloaded, silent)
    fc.assert(
      fc.property(fc.constantFrom(...ExitReason.options), results, fc.boolean(), (reason, result, cancelled) => {
        const { state, error } = endingOf(exit({ reason, ...(result ? { result } : {}) }), cancelled)
        expect(isTerminal(state)).toBe(true)
        expect(error === undefined).toBe(state === 'succeeded')
        expect(error === undefined || RunErrorCode.safeParse(error.code).success).toBe(true)
        expect(error?.message).not.toBe('')
      }),
    )
  })

  it('keeps what the runner said about it', () => {
    expect(endingOf(exit({ reason: 'not_started', message: 'the go came too late' }), false).error?.message).toBe('the go came too late')
  })
})

describe('the states of a run', () => {
  it('are each shown as one public status, and found by it again', () => {
    for (const state of RUN_STATES) {
      expect(PUBLIC_STATUSES).toContain(publicStatus(state))
      expect(statesOf(publicStatus(state))).toContain(state)
    }
    expect(PUBLIC_STATUSES.flatMap(statesOf).toSorted()).toEqual([...RUN_STATES].toSorted())
  })

  it('are terminal or can still change', () => {
    const live: readonly string[] = ['queued', 'offered', 'leased', 'running']
    for (const state of RUN_STATES) expect(isTerminal(state)).toBe(!live.includes(state))
  })
})
