/** A run as clients see it. */
import type { ShownRun } from '../ports.ts'
import { publicStatus } from '../core/run-state.ts'
import type { ListedRun } from '../store/run-pages.ts'
import { answerOf, resultIn } from './result.ts'

const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString())

/** All of a run but the text of its result, which lives in the event log only. */
export function runSummary(row: ListedRun, queuePosition?: number) {
  return {
    id: row.id,
    status: publicStatus(row.state),
    session_id: row.session,
    runner_id: row.runner,
    provider: row.provider,
    model: row.model,
    is_error: row.isError,
    ...(row.errorCode === null ? {} : { error: { code: row.errorCode, message: row.errorMessage ?? '' } }),
    cost_usd: row.costUsd,
    ...(row.costEstimated === true ? { cost_estimated: true } : {}),
    ...(row.degraded === true ? { degraded: true } : {}),
    usage: row.usage,
    num_turns: row.numTurns,
    duration_ms: row.durationMs,
    created_at: iso(row.createdAt),
    started_at: iso(row.startedAt),
    ended_at: iso(row.endedAt),
    metadata: row.metadata,
    ...(queuePosition === undefined ? {} : { queue_position: queuePosition }),
  }
}

/** With the result: its text, or whatever the CLI put in its place; null while there is none. */
export function runView({ row, result: line }: ShownRun, queuePosition?: number) {
  const { id, status, session_id, runner_id, provider, model, ...rest } = runSummary(row, queuePosition)
  return { id, status, session_id, runner_id, provider, model, result: answerOf(resultIn(line)), ...rest }
}
