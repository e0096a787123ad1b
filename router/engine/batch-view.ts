/** A batch as clients see it: made of its row and those of its runs. */
import { isTerminal, publicStatus, type PublicStatus } from '../core/run-state.ts'
import type { BatchRow, BatchTally, MemberRow } from '../store/batches.ts'

/** `refused`: no run came of it, and `error` says why. `not_submitted`: it was not reached before its request was cut off. */
export type ItemStatus = PublicStatus | 'refused' | 'not_submitted'
export type Counts = Record<ItemStatus, number>

/** While somebody is at it; what is not submitted by then never will be, unless the request is sent again with its key. */
const SUBMITTING_MS = 60_000

const noCounts = (): Counts => ({ queued: 0, running: 0, succeeded: 0, failed: 0, cancelled: 0, lost: 0, refused: 0, not_submitted: 0 })

/** Without its items. */
export function batchSummary(row: BatchRow, tallies: readonly BatchTally[], now: number) {
  const counts = noCounts()
  for (const { state, count } of tallies) counts[publicStatus(state)] += count
  const taken = tallies.reduce((sum, { count }) => sum + count, 0)
  // One that was refused to a request and taken from its twin is a run.
  counts.refused = Math.min(row.refused.length, row.size - taken)
  counts.not_submitted = row.size - taken - counts.refused
  return summaryOf(row, counts, tallies.reduce((sum, { usd }) => sum + usd, 0), now)
}

/** With every item, in the order of the request. */
export function batchView(row: BatchRow, runs: readonly MemberRow[], now: number) {
  const items = itemsOf(row, runs)
  const counts = noCounts()
  for (const { status } of items) counts[status]++
  return { ...summaryOf(row, counts, runs.reduce((sum, { costUsd }) => sum + (costUsd ?? 0), 0), now), items }
}

function summaryOf({ id, size, metadata, createdAt }: BatchRow, counts: Counts, usd: number, now: number) {
  const live = counts.queued + counts.running > 0 || (counts.not_submitted > 0 && now - createdAt < SUBMITTING_MS)
  const status: 'running' | 'ended' = live ? 'running' : 'ended'
  return { id, status, size, counts, cost_usd: usd, metadata, created_at: new Date(createdAt).toISOString() }
}

function itemsOf(row: BatchRow, runs: readonly MemberRow[]) {
  const taken = new Map(runs.map((run) => [run.index, run]))
  const refused = new Map(row.refused.map((one) => [one.index, one]))
  return Array.from({ length: row.size }, (_, index) => {
    const run = taken.get(index)
    if (run) {
      const error = run.errorCode === null ? {} : { error: { code: run.errorCode, message: run.errorMessage ?? '' } }
      return { index, run_id: run.id, status: publicStatus(run.state) as ItemStatus, session_id: run.session, cost_usd: run.costUsd, ...error }
    }
    const why = refused.get(index)
    const nothing = { index, run_id: null, session_id: null, cost_usd: null }
    if (!why) return { ...nothing, status: 'not_submitted' as ItemStatus }
    return { ...nothing, status: 'refused' as ItemStatus, error: { code: why.code, message: why.message } }
  })
}

export const isLive = ({ state }: MemberRow): boolean => !isTerminal(state)
