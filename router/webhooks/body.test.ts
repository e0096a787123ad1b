import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { uuidOfRun } from '../../shared/ids.ts'
import type { WebhookEvent } from '../../shared/webhooks.ts'
import type { RunRow } from '../ports.ts'
import type { NoticeRow } from '../store/deliveries.ts'
import type { SessionRow } from '../store/sessions.ts'
import { bodyOf, bounded, MAX_RESULT_BYTES, testBody, type Facts } from './body.ts'

const RUN = 'run_00000000000000000000000000000001'
const TASK = uuidOfRun(RUN)
const SESSION = '00000000-0000-4000-8000-000000000001'
const usage = { input_tokens: 1, output_tokens: 2, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 }
const run = { id: RUN, session: SESSION, state: 'succeeded', costUsd: 0.25, durationMs: 1_500, usage, errorCode: null, errorMessage: null, createdAt: 0, startedAt: null, endedAt: 0 } as RunRow
const failed = { ...run, state: 'failed', errorCode: 'crashed', errorMessage: 'the CLI ended with 1' } as RunRow
const notice = (event: WebhookEvent): NoticeRow => {
  const isRun = event.startsWith('run.')
  return { id: `${event}/x`, tenant: 'default', event, run: isRun ? RUN : null, session: SESSION, at: 1_800_000_000_000, bare: null }
}
const body = (event: WebhookEvent, facts: Facts, format: 'standard' | 'ccs', isForOneRun = false): unknown => JSON.parse(bodyOf(notice(event), facts, format, isForOneRun))
const timestamp = new Date(1_800_000_000_000).toISOString()

describe('the body of a message', () => {
  it('has what happened, when, and the run with its result as the API shows it', () => {
    expect(body('run.succeeded', { run, result: { result: 'hello' } }, 'standard')).toMatchObject({
      type: 'run.succeeded',
      timestamp,
      data: { id: RUN, session_id: SESSION, status: 'succeeded', cost_usd: 0.25, usage, result: 'hello', result_truncated: false },
    })
    expect(body('run.succeeded', { run, result: { result: '…', structured_output: { a: 1 } } }, 'standard')).toMatchObject({ data: { result: { a: 1 } } })
    expect(body('run.started', { run }, 'standard')).not.toHaveProperty('data.result')
    expect(body('run.lost', {}, 'standard')).toEqual({ type: 'run.lost', timestamp, data: { id: RUN, session_id: SESSION } })
  })

  it('has a session as far as it is still there', () => {
    const session = { id: SESSION, title: 'T', status: 'active', model: null, metadata: { a: 1 }, createdAt: 0 } as unknown as SessionRow
    expect(body('session.created', { session }, 'standard')).toMatchObject({ data: { id: SESSION, title: 'T', metadata: { a: 1 }, created_at: '1970-01-01T00:00:00.000Z' } })
    expect(body('session.deleted', {}, 'standard')).toEqual({ type: 'session.deleted', timestamp, data: { id: SESSION } })
  })

  it.each<[WebhookEvent, Facts, string, object, string, object]>([
    ['run.started', { run }, 'task.started', { task_id: TASK, status: 'processing' }, 'task.started', { task_id: TASK, status: 'processing' }],
    [
      'run.succeeded',
      { run, result: { result: 'hi' } },
      'task.completed',
      { task_id: TASK, status: 'completed', result: 'hi' },
      'task.completed',
      { task_id: TASK, result: 'hi', duration_ms: 1_500, cost_usd: 0.25, session_id: SESSION, usage },
    ],
    ['run.failed', { run: failed }, 'task.failed', { task_id: TASK, status: 'failed', error: 'the CLI ended with 1' }, 'task.failed', { task_id: TASK, error: 'the CLI ended with 1' }],
    [
      'run.failed',
      { run: { ...failed, errorCode: 'timeout', errorMessage: 'too long' } },
      'task.failed',
      { task_id: TASK, status: 'failed', error: 'too long' },
      'task.timeout',
      { task_id: TASK, error: 'too long' },
    ],
    ['run.lost', {}, 'task.failed', { task_id: TASK, status: 'failed', error: 'the run failed' }, 'task.error', { task_id: TASK, error: 'the run failed' }],
    ['run.cancelled', { run }, 'task.cancelled', { task_id: TASK, status: 'cancelled' }, 'task.cancelled', { task_id: TASK, status: 'cancelled' }],
    ['session.deleted', {}, 'session.deleted', { session_id: SESSION }, 'session.deleted', { session_id: SESSION }],
  ])('for clients of ccs tells of %s as that server did, to the default address and to that of one request', (event, facts, name, data, ownName, ownData) => {
    expect(body(event, facts, 'ccs')).toEqual({ event: name, timestamp, data })
    expect(body(event, facts, 'ccs', true)).toEqual({ event: ownName, timestamp, data: ownData })
  })

  it('of a test says which webhook it is of', () => {
    expect(JSON.parse(testBody('whk_1', 'standard', 0))).toEqual({ type: 'webhook.test', timestamp: '1970-01-01T00:00:00.000Z', data: { webhook_id: 'whk_1' } })
    expect(JSON.parse(testBody('whk_1', 'ccs', 0))).toMatchObject({ event: 'webhook.test' })
  })
})

describe('a result', () => {
  it('is there whole up to 64 KiB, and one byte more is cut', () => {
    expect(bounded('x'.repeat(MAX_RESULT_BYTES))).toEqual({ value: 'x'.repeat(MAX_RESULT_BYTES), isCut: false })
    expect(bounded('x'.repeat(MAX_RESULT_BYTES + 1))).toEqual({ value: 'x'.repeat(MAX_RESULT_BYTES), isCut: true })
    expect(bounded({ a: 'x'.repeat(MAX_RESULT_BYTES) })).toEqual({ value: null, isCut: true })
    for (const nothing of [undefined, null]) expect(bounded(nothing)).toEqual({ value: null, isCut: false })
  })

  it('is cut between characters, whatever they are', () => {
    const texts = fc.tuple(fc.nat(4), fc.constantFrom('ü', '€', '💥', 'x')).map(([lead, char]) => 'a'.repeat(lead) + char.repeat(MAX_RESULT_BYTES))
    fc.assert(
      fc.property(texts, (text) => {
        const { value } = bounded(text)
        const cut = String(value)
        expect(text.startsWith(cut)).toBe(true)
        expect(new TextEncoder().encode(cut).length).toBeGreaterThan(MAX_RESULT_BYTES - 4)
        expect(new TextEncoder().encode(cut).length).toBeLessThanOrEqual(MAX_RESULT_BYTES)
      }),
      { numRuns: 20 },
    )
  })
})
