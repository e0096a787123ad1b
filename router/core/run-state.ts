/**
 * How a run ends, decided in one place. Our own intent comes first, then how the process ended, then what the CLI said:
 * the CLI exits 0 on some interrupts and says `subtype: success` on API failures, so neither is asked first.
 */
import type { ExitMark, RunError, TurnResult } from '../../shared/marks.ts'
import { costOf } from './budget.ts'

export type RunState = 'queued' | 'offered' | 'leased' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'lost'
export type PublicStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'lost'
export type Terminal = 'succeeded' | 'failed' | 'cancelled' | 'lost'

export const PUBLIC_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'lost'] as const

export function publicStatus(state: RunState): PublicStatus {
  if (state === 'offered') return 'queued'
  return state === 'leased' ? 'running' : state
}

/** The states behind one public status, for a query. */
export function statesOf(status: PublicStatus): RunState[] {
  if (status === 'queued') return ['queued', 'offered']
  return status === 'running' ? ['leased', 'running'] : [status]
}

export function isTerminal(state: RunState): state is Terminal {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled' || state === 'lost'
}

export type Ending = {
  state: Terminal
  error: RunError | undefined
  result: TurnResult | undefined
  durationMs: number
  /** Undefined: nobody knows, so what was reserved is charged. */
  costUsd: number | undefined
  /** It was `costUsd` or more: what was reserved is charged where that is more. */
  costIsLeast?: boolean
  /** The provider that answered last, where the gateway has seen one. */
  provider: string | undefined
}

const MESSAGES: Record<Exclude<ExitMark['reason'], 'completed'>, string> = {
  cancelled: 'the run was cancelled',
  timeout: 'the run took longer than its timeout_s',
  crashed: 'the CLI ended without a result',
  spool_full: 'the runner had no room left for the events of this run',
  not_started: 'the runner never started the CLI',
  runner_restarted: 'the runner was restarted while the CLI was running',
  runner_stopped: 'the runner was stopped while the CLI was running',
  queue_timeout: 'no slot came free in time',
  rejected: 'the runner refused the run',
  lost: 'the runner did not come back with this run',
}

/** `begun`: it was with a runner, so something of it may have been spent. */
export function endingOf(exit: ExitMark, cancelRequested: boolean, begun = true): Ending {
  const cost = costOf(exit, begun)
  const base = {
    result: exit.result,
    durationMs: exit.duration_ms,
    costUsd: cost.usd,
    ...(cost.isLeast ? { costIsLeast: true } : {}),
    provider: exit.metered?.provider ?? undefined,
  }
  if (exit.reason === 'lost') return { ...base, state: 'lost', error: { code: 'lost', message: exit.message ?? MESSAGES.lost } }
  if (cancelRequested) return { ...base, state: 'cancelled', error: { code: 'cancelled', message: MESSAGES.cancelled } }
  if (exit.reason !== 'completed') {
    return { ...base, state: 'failed', error: { code: exit.reason, message: exit.message ?? MESSAGES[exit.reason] } }
  }
  const { result } = exit
  if (!result) return { ...base, state: 'failed', error: { code: 'crashed', message: exit.message ?? MESSAGES.crashed } }
  if (!result.is_error) return { ...base, state: 'succeeded', error: undefined }
  return { ...base, state: 'failed', error: result.error ?? { code: 'cli_error', message: 'the CLI reported an error without saying which' } }
}
