import { describe, expect, it } from 'vitest'
import type { BatchRow, MemberRow } from '../store/batches.ts'
import { batchSummary, batchView } from './batch-view.ts'

const MADE = 1_000_000
const batch = (refused: number[] = [], size = 4): BatchRow => ({
  id: 'bat_1',
  tenant: 't',
  subject: 's',
  size,
  refused: refused.map((index) => ({ index, code: 'budget', message: 'spent' })),
  metadata: null,
  createdAt: MADE,
})
const run = (index: number, state: MemberRow['state'], costUsd: number | null = null): MemberRow => ({ id: `run_${index}`, index, state, session: 's', costUsd, errorCode: null, errorMessage: null })
const later = MADE + 3_600_000

describe('a batch as clients see it', () => {
  it('has each item in its place', () => {
    const view = batchView(batch([2]), [run(0, 'succeeded', 1), run(3, 'offered', null)], later)
    expect(view.items.map(({ status }) => status)).toEqual(['succeeded', 'not_submitted', 'refused', 'queued'])
    expect(view).toMatchObject({ status: 'running', cost_usd: 1, counts: { succeeded: 1, queued: 1, refused: 1, not_submitted: 1 } })
    expect(view.items[2]).toMatchObject({ run_id: null, error: { code: 'budget', message: 'spent' } })
  })

  it('says of an item what its run says, when a twin of the request had more luck with it', () => {
    const view = batchView(batch([0, 1]), [0, 1, 2, 3].map((index) => run(index, 'succeeded')), later)
    expect(view).toMatchObject({ status: 'ended', counts: { succeeded: 4, refused: 0, not_submitted: 0 } })
    expect(batchSummary(batch([0, 1]), [{ batch: 'bat_1', state: 'succeeded', count: 4, usd: 0 }], later).counts).toEqual(view.counts)
  })

  it('is running while somebody may be submitting it, and has ended when nobody can be any more', () => {
    expect(batchView(batch(), [], MADE + 1_000).status).toBe('running')
    expect(batchView(batch(), [run(0, 'lost')], later)).toMatchObject({ status: 'ended', counts: { lost: 1, not_submitted: 3 } })
  })
})
