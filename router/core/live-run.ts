/** One run as its RunnerCore keeps it, from the offer to the durable ending. */
import { GRACE_MS, LEASE_MS, START_BY_MS } from '../../shared/limits.ts'
import type { ExitMark } from '../../shared/marks.ts'
import type { RestoredRun } from './effects.ts'
import { Intake } from './intake.ts'

export type LiveRun = {
  readonly run: string
  readonly fence: number
  /** `returning`: it never started, and its row is being put back into the line. */
  phase: 'offered' | 'leasing' | 'leased' | 'running' | 'returning' | 'ending'
  readonly intake: Intake
  cancel: { sentAt: number | undefined } | undefined
  offer: { id: string; startBy: number } | undefined
  /** Last sign of this run: a heartbeat that named it, or the lease itself. */
  heardAt: number
  /** Last event of this run; an exit may stand behind a long backlog on a slow line. */
  progressAt: number
  readonly timeoutMs: number
  /** The runner ends a run that takes too long; past this the router does. */
  deadlineAt: number
  overdueSince: number | undefined
}

/** How long a connected runner may take to confirm a cancel; its own ladder is over in 6 s, the sweep included in 10. */
export const CANCEL_CONFIRM_MS = 30_000
/** The runner's own timeout, its cancel ladder and the way of its events come first. */
export const BACKSTOP_MS = 60_000

export function offeredRun(run: string, fence: number, offerId: string, timeoutMs: number, now: number): LiveRun {
  return {
    run,
    fence,
    phase: 'offered',
    intake: new Intake({ seq: 0, part: 0 }),
    cancel: undefined,
    offer: { id: offerId, startBy: now + START_BY_MS },
    heardAt: now,
    progressAt: now,
    timeoutMs,
    deadlineAt: now + timeoutMs + BACKSTOP_MS,
    overdueSince: undefined,
  }
}

export function restoredRun(r: RestoredRun, now: number, heardAt = now): LiveRun {
  return {
    run: r.run,
    fence: r.fence,
    phase: r.state,
    intake: new Intake(r.durable, r.parts),
    cancel: r.cancelRequested ? { sentAt: undefined } : undefined,
    offer: undefined,
    heardAt,
    progressAt: now,
    timeoutMs: r.timeoutMs,
    // How long it has run already may not be known on this clock; later is safe, the runner counts as well.
    deadlineAt: r.deadlineAt ?? now + r.timeoutMs + BACKSTOP_MS,
    overdueSince: undefined,
  }
}

/** The runner may have been told to go, and neither its ending nor its return to the line is being written yet. */
export function isStarted(run: LiveRun): boolean {
  return run.phase === 'leased' || run.phase === 'running'
}

/** A heartbeat names the runs that the runner holds: those that started live on, those that are not here are none of ours. */
export function renew(live: ReadonlyMap<string, LiveRun>, named: readonly [string, number, number][], now: number) {
  const renewed: LiveRun[] = []
  const unknown: { run: string; fence: number }[] = []
  for (const [run, fence] of named) {
    const ours = live.get(run)
    if (ours?.fence !== fence) unknown.push({ run, fence })
    else if (isStarted(ours)) {
      ours.heardAt = now
      renewed.push(ours)
    }
  }
  return { renewed, unknown }
}

export type Due = { what: 'void' } | { what: 'lost'; why: string } | { what: 'overdue' }

/** What time alone decides about a run. `offlineSince`: since when its runner has no connection, undefined if it has one. */
export function whatIsDue(run: LiveRun, offlineSince: number | undefined, now: number): Due | undefined {
  if (run.phase === 'offered') return run.offer && now >= run.offer.startBy ? { what: 'void' } : undefined
  if (!isStarted(run)) return undefined
  const lost = (why: string): Due => ({ what: 'lost', why })
  if (offlineSince !== undefined) {
    return now - Math.max(offlineSince, run.heardAt) >= GRACE_MS ? lost('the runner was away for too long') : undefined
  }
  const askedAt = run.cancel?.sentAt ?? run.overdueSince
  if (askedAt !== undefined && now - Math.max(askedAt, run.progressAt) >= CANCEL_CONFIRM_MS) {
    return lost(run.cancel ? 'the runner did not confirm that the run is cancelled' : 'the runner did not end the run at its timeout')
  }
  if (now - run.heardAt >= LEASE_MS + GRACE_MS) return lost('the runner no longer speaks of this run')
  return run.overdueSince === undefined && now >= run.deadlineAt ? { what: 'overdue' } : undefined
}

/** What an exit mark means for this run; `never`: it was not started, so it may be elsewhere. */
export function howItEnded(run: LiveRun, exit: ExitMark, seq: number): ExitMark | 'never' {
  // Its own word that nothing was started is the one thing that makes a second start safe.
  if (run.phase === 'leased' && exit.reason === 'not_started' && seq === 1 && !run.cancel) return 'never'
  // It was we who ended it, but for its timeout and not for anybody's wish.
  return run.overdueSince !== undefined && exit.reason === 'cancelled' ? { ...exit, reason: 'timeout' } : exit
}
