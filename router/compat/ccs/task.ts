/**
 * A task of ccs is a run that nobody waits for. Its id is that of the run, written as a UUID; what the client wants to find
 * in it again is in the run's metadata, which never holds what could be a secret: no MCP config and no system prompt.
 */
import type { Context } from 'hono'
import type { z } from 'zod'
import { RunId, uuidOfRun } from '../../../shared/ids.ts'
import { Fault } from '../../../shared/faults.ts'
import { isTerminal, publicStatus } from '../../core/run-state.ts'
import { answerOf, resultOf } from '../../engine/result.ts'
import type { AppEnv, RunRow, RunState } from '../../ports.ts'
import { begin, rowOf } from '../kit/runs.ts'
import { wantedBy, type Ask } from './ask.ts'
import { whyNot } from './outcome.ts'
import type { Accepted, Task, TASK_STATES } from './schemas.ts'

/** A task waits for as long as a run can. */
const QUEUE_TIMEOUT_S = 86_400

/** Where a run's metadata has what its client wants to find again; it goes with the session, the task stays. */
const NOTES = 'ccs_task'

export type TaskState = (typeof TASK_STATES)[number]

/** `notes` is what else is kept of what was asked. Throws the fault of a refusal. */
export async function startTask(c: Context<AppEnv>, ask: Ask, notes: Record<string, unknown> = {}): Promise<RunRow> {
  const wish = await wantedBy(c, ask)
  const { webhook_url, session_id, max_budget_usd, allowed_tools, disallowed_tools, agent, permission_mode } = ask
  const kept = { ...notes, webhook_url, session_id, max_budget_usd, allowed_tools, disallowed_tools, agent, permission_mode }
  const ref = await begin(c, { ...wish, queueTimeoutS: QUEUE_TIMEOUT_S, task: true, metadata: { [NOTES]: JSON.stringify(kept) } }, 'placed')
  c.header('x-run-id', ref.run)
  return rowOf(c, ref)
}

export function acceptedTask(row: RunRow, webhookUrl: string | undefined): z.infer<typeof Accepted> {
  const { id, priority, session } = row
  const task = { task_id: uuidOfRun(id), status: 'pending' as const, priority, session_id: session, webhook_url: webhookUrl ?? null }
  return { success: true, message: 'Task created successfully', ...task }
}

/** Undefined for what is no id of a task, is none of this tenant, or is a run that somebody waited for. */
export async function findTask(c: Context<AppEnv>, id: string): Promise<RunRow | undefined> {
  const run = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id) ? `run_${id.replaceAll('-', '')}` : ''
  if (!RunId.safeParse(run).success) return undefined
  const row = await c.get('deps').records.find({ run, tenant: c.get('principal').tenant })
  return row?.task ? row : undefined
}

export async function mustFindTask(c: Context<AppEnv>, id: string): Promise<RunRow> {
  const row = await findTask(c, id)
  if (!row) throw new Fault('not_found', 'Task not found')
  return row
}

export function taskState(state: RunState): TaskState {
  switch (publicStatus(state)) {
    case 'queued':
      return 'pending'
    case 'running':
      return 'processing'
    case 'succeeded':
      return 'completed'
    case 'cancelled':
      return 'cancelled'
    case 'failed':
    case 'lost':
      return 'failed'
  }
}

const RUN_STATES = ['queued', 'offered', 'leased', 'running', 'succeeded', 'failed', 'cancelled', 'lost'] as const
export const statesOfTask = (state: TaskState): RunState[] => RUN_STATES.filter((one) => taskState(one) === state)

const iso = (ms: number) => new Date(ms).toISOString()
const isoOrNull = (ms: number | null) => (ms === null ? null : iso(ms))

export async function taskView(c: Context<AppEnv>, row: RunRow, prompt: string | undefined): Promise<z.infer<typeof Task>> {
  const succeeded = row.state === 'succeeded'
  return {
    id: uuidOfRun(row.id),
    created_at: iso(row.createdAt),
    updated_at: iso(row.endedAt ?? row.startedAt ?? row.createdAt),
    status: taskState(row.state),
    prompt: prompt ?? null,
    project_path: row.cwd ?? row.spec?.cwd ?? null,
    model: row.model,
    priority: row.priority,
    result: succeeded ? answerOf(await resultOf(c.get('deps').records, row)) : null,
    error: isTerminal(row.state) && !succeeded ? whyNot(row) : null,
    started_at: isoOrNull(row.startedAt),
    completed_at: isoOrNull(row.endedAt),
    duration_ms: row.durationMs,
    cost_usd: row.costUsd,
    session_id: row.session,
    metadata: notesOf(row),
  }
}

function notesOf(row: RunRow): Record<string, unknown> {
  return JSON.parse(row.metadata?.[NOTES] ?? '{}') as Record<string, unknown>
}
