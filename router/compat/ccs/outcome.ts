/** What became of a run, as ccs says it: an answer, or a failure with what it has cost all the same. */
import type { Context } from 'hono'
import type { z } from 'zod'
import { answerOf, resultOf } from '../../engine/result.ts'
import type { AppEnv, RunRef, RunRow } from '../../ports.ts'
import { begin, ended } from '../kit/runs.ts'
import { wantedBy, type Ask } from './ask.ts'
import { costBeside } from './queries.ts'
import type { Answer, Failure } from './schemas.ts'

export type Outcome = { readonly ok: true; readonly body: z.infer<typeof Answer> } | { readonly ok: false; readonly body: z.infer<typeof Failure> }

/** From its prompt to its end. Throws the fault of a refusal. `queueTimeoutS`: how long it may wait for a slot. */
export async function perform(c: Context<AppEnv>, ask: Ask, more: { readonly queueTimeoutS?: number; readonly onBegun?: (ref: RunRef) => void } = {}): Promise<Outcome> {
  const wish = await wantedBy(c, ask)
  const ref = await begin(c, more.queueTimeoutS === undefined ? wish : { ...wish, queueTimeoutS: more.queueTimeoutS })
  // From here on a second attempt could start a second run.
  c.header('x-should-retry', 'false')
  more.onBegun?.(ref)
  return outcomeOf(c, await ended(c, ref), wish.sessionUsd)
}

/** `maxUsd`: what its session may cost. */
async function outcomeOf(c: Context<AppEnv>, row: RunRow, maxUsd: number | undefined): Promise<Outcome> {
  const { records, store } = c.get('deps')
  const said = await resultOf(records, row)
  const costUsd = row.costUsd ?? 0
  const numbers = { duration_ms: row.durationMs ?? 0, session_id: row.session, cost_usd: costUsd }
  const isStopped = row.errorCode === 'max_budget' || row.errorCode === 'budget'
  if (isStopped || (row.state === 'succeeded' && maxUsd !== undefined)) {
    const totalUsd = (await costBeside(store.db, row)) + costUsd
    const limitUsd = maxUsd ?? totalUsd
    const budget = { budget_exceeded: true as const, current_cost_usd: totalUsd, max_budget_usd: limitUsd, request_cost_usd: costUsd }
    // What was paid for is not thrown away.
    const result = answerOf(said)
    const error = `Budget exceeded: ${totalUsd} USD of ${limitUsd} USD`
    if (isStopped || totalUsd > limitUsd) return { ok: false, body: { success: false, error, ...budget, ...numbers, ...(result === null ? {} : { result }) } }
  }
  if (row.state !== 'succeeded') {
    return { ok: false, body: { success: false, error: whyNot(row), ...numbers, ...(row.errorCode === null ? {} : { details: row.errorCode }) } }
  }
  const usage = said?.['usage']
  return { ok: true, body: { success: true, result: answerOf(said), ...numbers, usage: isRecord(usage) ? usage : row.usage } }
}

/** Of a run that has ended and did not succeed. */
export function whyNot(row: RunRow): string {
  if (row.errorCode === 'timeout') return 'Command execution timeout'
  return row.errorMessage ?? row.errorCode ?? `the run is ${row.state}`
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
