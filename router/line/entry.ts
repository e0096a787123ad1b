/** One run in the line: what is known of it there, who waits with it, and what to say when its time is over. */
import { Fault } from '../../shared/faults.ts'
import type { ExitMark } from '../../shared/marks.ts'
import type { Needs, Refusal } from '../../shared/policy.ts'
import type { Placed } from '../core/placement.ts'
import { endingOf } from '../core/run-state.ts'
import type { Append } from '../core/runner-core.ts'
import type { QueuedRow } from '../store/runs.ts'

const RETRY_AFTER_S = 2
/** An attempt that was refused for want of room or of an answer is made again elsewhere this many times. */
export const MAX_REOFFERS = 2

export type Watcher = {
  resolve: (outcome: 'accepted' | 'waiting') => void
  reject: (fault: Fault) => void
  placedIsEnough: boolean
}

export type Entry = {
  readonly run: string
  readonly tenant: string
  readonly session: string
  readonly pool: string
  readonly labels: Readonly<Record<string, string>>
  readonly bound: string | undefined
  readonly needs: Needs
  priority: number
  readonly createdAt: number
  readonly queueUntil: number
  fence: number
  attempts: number
  /** Runners that did not answer it. */
  readonly tried: Set<string>
  /** Runners that were full a moment ago, whatever is known of their slots. */
  readonly full: Set<string>
  /** Under way to a runner: not to be placed a second time. */
  offered: boolean
  /** Somebody wants it to end, which its row knows. */
  wished: boolean
  /** The runner that refused it, until its row waits again. */
  returning: string | undefined
  readonly watchers: Set<Watcher>
  /** Somebody heard its id already, so it must end as a run and not vanish. */
  known: boolean
  /** The rule against it, for as long as `why` is `policy`. */
  refusal: Refusal | undefined
  /** Why it could not be placed last time. */
  why: Exclude<Placed, { ok: true }>['why'] | 'session_busy'
}

export function entryOf(row: QueuedRow, known: boolean): Entry {
  const { id, bound, ...rest } = row
  return {
    ...rest,
    run: id,
    bound: bound ?? undefined,
    attempts: 0,
    tried: new Set(),
    full: new Set(),
    offered: false,
    wished: false,
    returning: undefined,
    watchers: new Set(),
    known,
    refusal: undefined,
    why: 'all_busy',
  }
}

/** Somebody of the same pool waits already and would be overtaken by `entry`. */
export function wouldOvertake(entry: Entry, others: Iterable<Entry>): boolean {
  for (const other of others) {
    if (other.offered || other.pool !== entry.pool || other.priority < entry.priority) continue
    if (other.why !== 'session_busy' && other.why !== 'bound_offline' && other.why !== 'policy') return true
  }
  return false
}

/** It waits: for those who only wanted to know that much, this is the answer. From now on its id is known. */
export function tell(entry: Entry): void {
  for (const watcher of entry.watchers) {
    if (!watcher.placedIsEnough) continue
    entry.known = true
    entry.watchers.delete(watcher)
    watcher.resolve('waiting')
  }
}

/** No runner that fits may run it, and waiting changes nothing about that. */
export function policyFault({ field, message }: Refusal): Fault {
  return new Fault('policy', `no runner that fits may run this: ${message}`, { extra: { field } })
}

export function timeoutFault({ why, pool, labels, bound, session, refusal }: Entry): Fault {
  const retry = { retryAfterS: RETRY_AFTER_S }
  const taken = new Fault('busy', 'every slot of the runners that fit is taken', retry)
  const wanted = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  switch (why) {
    case 'bound_offline':
      return new Fault('no_runner', `the runner ${bound} that holds session ${session} is not connected`, retry)
    case 'none_matches':
      return new Fault(
        'no_runner',
        `no runner in pool ${pool}${wanted.length > 0 ? ` with labels ${wanted.join(', ')}` : ''} is connected`,
        retry,
      )
    case 'draining':
      return new Fault('busy', 'every runner that fits takes no new runs', retry)
    case 'session_busy':
      return new Fault('busy', `session ${session} still has a turn in progress`, retry)
    case 'policy':
      return refusal ? policyFault(refusal) : taken
    case 'all_busy':
      return taken
  }
}

/** It waits on without those who watched: they hear this, and its id with it. */
export function letWait(entry: Entry, fault: Fault): void {
  entry.known = true
  for (const { reject } of entry.watchers) reject(fault)
  entry.watchers.clear()
}

/** The database did not answer in time, or with an error that proves nothing. */
export function uncertain(run: string): Fault {
  const message = `the database does not take writes; run ${run} waits for it`
  return new Fault('storage', message, { retryAfterS: RETRY_AFTER_S, mayStart: true, extra: { run_id: run } })
}

export function stopping(run: string): Fault {
  const message = `the router is stopping; run ${run} waits for the next one`
  return new Fault('draining', message, { mayStart: true, extra: { run_id: run } })
}

export const CANCELLED: ExitMark = { kind: 'exit', code: null, signal: null, reason: 'cancelled', duration_ms: 0 }

export function exitOf({ code, message }: Fault): ExitMark {
  const reason = code === 'busy' || code === 'no_runner' ? 'queue_timeout' : 'rejected'
  return { kind: 'exit', code: null, signal: null, reason, message, duration_ms: 0 }
}

/** Its end, before anything of it has begun: the one event that it will ever have. */
export function endOf({ run, fence }: Entry, exit: ExitMark): Append {
  const bytes = new TextEncoder().encode(JSON.stringify(exit))
  const rows = [{ first: 1, part: 0, parts: 1, count: 1, kind: 'mark', bytes }] as const
  return { run, fence, rows, upTo: { seq: 1, part: 0 }, ending: endingOf(exit, exit.reason === 'cancelled', false) }
}

/** Why it waits on, as far as the refusal of one runner tells; the next look at the fleet knows better. */
export function whyNot({ bound }: Entry, { code }: Fault): Entry['why'] {
  if (code === 'no_runner') return bound === undefined ? 'none_matches' : 'bound_offline'
  return code === 'draining' ? 'draining' : 'all_busy'
}
