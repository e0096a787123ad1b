/**
 * What receivers read. A body is made once, when its message is: every attempt sends the same bytes.
 *
 * `standard` is our own: what happened, when, and the run or session as the API shows it. `ccs` is what clients of that
 * server expect, which depends on whether one request named the address or the whole tenant has it.
 */
import { uuidOfRun } from '../../shared/ids.ts'
import type { WebhookEvent, WebhookFormat } from '../../shared/webhooks.ts'
import { answerOf } from '../engine/result.ts'
import { runSummary } from '../engine/run-view.ts'
import type { RunRow } from '../ports.ts'
import type { NoticeRow } from '../store/deliveries.ts'
import type { SessionRow } from '../store/sessions.ts'

/** Of a result; a longer one is fetched from the API. */
export const MAX_RESULT_BYTES = 64 * 1024

/** What is known of the thing that it is about, when the message is made. */
export interface Facts {
  readonly run?: RunRow | undefined
  readonly session?: SessionRow | undefined
  /** The CLI's last word of a run that has ended. */
  readonly result?: Readonly<Record<string, unknown>> | undefined
}

export function bodyOf(notice: NoticeRow, facts: Facts, format: WebhookFormat, isForOneRun: boolean): string {
  const event = notice.event as WebhookEvent
  const timestamp = new Date(notice.at).toISOString()
  if (format === 'ccs') {
    return JSON.stringify({ event: ccsEvent(event, facts.run, isForOneRun), timestamp, data: ccsData(notice, facts, isForOneRun) })
  }
  const data = notice.run === null ? sessionData(notice, facts.session) : runData(notice, facts)
  return JSON.stringify({ type: event, timestamp, data })
}

/** To see that a webhook works. */
export function testBody(webhook: string, format: WebhookFormat, now: number): string {
  const timestamp = new Date(now).toISOString()
  const data = { webhook_id: webhook }
  return JSON.stringify(format === 'ccs' ? { event: TEST_EVENT, timestamp, data } : { type: TEST_EVENT, timestamp, data })
}
export const TEST_EVENT = 'webhook.test'

function runData({ run: id, session, event }: NoticeRow, { run, result }: Facts): object {
  if (!run) return { id, session_id: session }
  const summary = runSummary(run)
  if (event === 'run.started') return summary
  const { value, isCut } = bounded(answerOf(result))
  return { ...summary, result: value, result_truncated: isCut }
}

function sessionData({ session: id }: NoticeRow, session: SessionRow | undefined): object {
  if (!session) return { id }
  const { title, status, model, metadata, createdAt } = session
  return { id, title, status, model, metadata, created_at: new Date(createdAt).toISOString() }
}

/** A longer text keeps its beginning; of an object there is no half. */
export function bounded(answer: unknown): { value: unknown; isCut: boolean } {
  const bytes = new TextEncoder().encode(typeof answer === 'string' ? answer : JSON.stringify(answer ?? null))
  if (bytes.length <= MAX_RESULT_BYTES) return { value: answer ?? null, isCut: false }
  // As part of a stream, so that a character that was cut in two is left out.
  const value = typeof answer === 'string' ? new TextDecoder().decode(bytes.subarray(0, MAX_RESULT_BYTES), { stream: true }) : null
  return { value, isCut: true }
}

/** Only to an address of its own did ccs say in what way a task had failed. */
function ccsEvent(event: WebhookEvent, run: RunRow | undefined, isForOneRun: boolean): string {
  switch (event) {
    case 'run.started':
      return 'task.started'
    case 'run.succeeded':
      return 'task.completed'
    case 'run.cancelled':
      return 'task.cancelled'
    case 'run.failed':
      return isForOneRun && run?.errorCode === 'timeout' ? 'task.timeout' : 'task.failed'
    case 'run.lost':
      return isForOneRun ? 'task.error' : 'task.failed'
    case 'session.created':
    case 'session.deleted':
      return event
  }
}

const CCS_STATES: Partial<Record<WebhookEvent, string>> = {
  'run.started': 'processing',
  'run.succeeded': 'completed',
  'run.failed': 'failed',
  'run.lost': 'failed',
  'run.cancelled': 'cancelled',
}

function ccsData({ event, run: id, session }: NoticeRow, { run, result, session: its }: Facts, isForOneRun: boolean): object {
  if (id === null) return { session_id: session, ...(its ? { project_path: its.cwd, model: its.model } : {}) }
  const status = CCS_STATES[event as WebhookEvent]
  // As its routes name it.
  const named = { task_id: uuidOfRun(id) }
  const task = isForOneRun && (status === 'completed' || status === 'failed') ? named : { ...named, status }
  if (status === 'failed') return { ...task, error: run?.errorMessage ?? 'the run failed' }
  if (status !== 'completed') return task
  const { value } = bounded(answerOf(result))
  const usage = { duration_ms: run?.durationMs ?? null, cost_usd: run?.costUsd ?? null, session_id: session, usage: run?.usage ?? null }
  return { ...task, result: value, ...(isForOneRun ? usage : {}) }
}
