/**
 * What a RunnerCore tells its host to do, and the messages that follow from nothing but their arguments.
 *
 * The host carries effects out in their order; what was appended is reported back only once it is durable.
 */
import type { FaultCode } from '../../shared/faults.ts'
import type { ProviderReport } from '../../shared/grants.ts'
import { CLOSE, type AckEntry, type Greeting, type HeldRun, type Hello, type Resume, type ToRunner } from '../../shared/frames.ts'
import { CONNECTION_WINDOW, DEAD_MS, GRACE_MS, HELLO_MS, LEASE_MS, MAX_MESSAGE, PING_MS } from '../../shared/limits.ts'
import type { ExitMark, GapMark } from '../../shared/marks.ts'
import type { LogRow, Position } from './intake.ts'
import { endingOf, type Ending } from './run-state.ts'

type Ref = { readonly run: string; readonly fence: number }

/** Rows for the log and the change of the run's row that belongs to them: one commit. */
export type Append = {
  readonly run: string
  readonly fence: number
  readonly rows: readonly LogRow[]
  /** Where the log stands once this is durable. */
  readonly upTo: Position
  readonly started?: { readonly provider: string }
  readonly running?: true
  readonly ending?: Ending
  /** A loss: the fence is raised with the ending, and what had only arrived in part is dropped. */
  readonly loss?: true
}

/** Where a session lives on its runner; `cliId`: what the CLI calls it there, if not by our id. */
export type Home = { cwd: string; cliId?: string | undefined }

export type Effect =
  | { do: 'send'; message: ToRunner }
  /** Admitted: find out what it pays with, then send the offer. */
  | { do: 'offer'; conn: number; message: Extract<ToRunner, { t: 'offer' }> }
  /** The gateway of the runner speaks of a run that is live here. */
  | { do: 'report'; report: ProviderReport }
  | { do: 'close'; conn: number; code: number; reason: string }
  | { do: 'append'; append: Append }
  | { do: 'ack'; entry: AckEntry }
  /** The runner accepted: make the lease durable, then call `leased`. */
  | { do: 'accepted'; run: string; fence: number; home: Home }
  /** The run was not and will not be started under this fence. */
  | { do: 'refused'; run: string; fence: number; code: FaultCode; message: string }
  /** The runner had the go and never started: back to the line, then call `requeued`. May be asked for again: it does no harm. */
  | { do: 'requeue'; run: string; fence: number }
  | { do: 'wake'; run: string }
  /** The database has it as over although it reported the commit as failed: what follows a durable ending is still to be done. */
  | { do: 'over'; run: string }
  | { do: 'log'; message: string; fields: Record<string, string | number> }

export type RestoredRun = {
  run: string
  fence: number
  state: 'leased' | 'running'
  durable: Position
  parts: number
  cancelRequested: boolean
  timeoutMs: number
  /** When it must be over, where the clock outlives the host. */
  deadlineAt?: number
}

export function greetingOf({ agent, cli, caps, slots, labels, provider, policy }: Hello): Greeting {
  return { agent, cli, caps, slots, labels, provider, policy }
}

const encoder = new TextEncoder()

export function welcome(proto: number, epoch: number, resume: Resume[]): Effect {
  return {
    do: 'send',
    message: {
      t: 'welcome',
      proto,
      epoch,
      ping_ms: PING_MS,
      dead_ms: DEAD_MS,
      lease_ms: LEASE_MS,
      grace_ms: GRACE_MS,
      max_msg: MAX_MESSAGE,
      credit: CONNECTION_WINDOW,
      resume,
    },
  }
}

/** Why a runner can be offered nothing now. */
export function unfit(link: { hello: Greeting | undefined; draining: boolean } | undefined, live: number): { code: FaultCode; message: string } | undefined {
  if (!link?.hello) return { code: 'no_runner', message: 'the runner is not connected' }
  if (link.draining) return { code: 'draining', message: 'the runner takes no new runs' }
  const { slots } = link.hello
  return live >= slots ? { code: 'busy', message: `all ${slots} slots of the runner are taken` } : undefined
}

/** Why a connection is given up. */
export function whySilent(link: { hello: Greeting | undefined; openedAt: number; heardAt: number }, now: number): { code: number; reason: string } | undefined {
  if (!link.hello && now - link.openedAt >= HELLO_MS) return { code: CLOSE.malformed, reason: 'no hello' }
  return now - link.heardAt >= DEAD_MS ? { code: CLOSE.liveness, reason: 'silent for too long' } : undefined
}

export function malformed(conn: number, reason: string): Effect {
  return { do: 'close', conn, code: CLOSE.malformed, reason: reason.slice(0, 120) }
}

export function leaseOf(runs: readonly Ref[], re: string): Effect {
  return { do: 'send', message: { t: 'lease', re, l: runs.map((r) => [r.run, r.fence, LEASE_MS]) } }
}

/** What a heartbeat is answered with. */
export function renewal(re: string, { renewed, unknown }: { renewed: readonly Ref[]; unknown: readonly Ref[] }): Effect[] {
  return [...unknown.map(revoke), ...(renewed.length > 0 ? [leaseOf(renewed, re)] : [])]
}

/** Behind an exit that is being written there is nothing more to keep; before the lease there can be nothing. */
export function outsideLife(conn: number, { run, phase }: { run: string; phase: string }): Effect[] {
  return phase === 'ending' || phase === 'returning' ? [] : [malformed(conn, `events of ${run} before its lease`)]
}

export function cancelOf({ run, fence }: Ref, id: number, mode: 'interrupt' | 'kill'): Effect {
  return { do: 'send', message: { t: 'cancel', id: `c${id}`, run, fence, mode, grace_ms: 2_000 } }
}

export function revoke({ run, fence }: Ref): Effect {
  return { do: 'send', message: { t: 'revoke', run, fence } }
}

/** `lost` is numbered by the router: a gap without an end, then the exit, so that a stream closes like any other. */
export function loss({ run, fence }: Ref, after: number, message: string): Append {
  const gap: GapMark = { kind: 'gap', reason: 'lost', from: after + 1, to: null }
  const exit: ExitMark = { kind: 'exit', code: null, signal: null, reason: 'lost', message, duration_ms: 0 }
  const rows = [gap, exit].map((mark, i): LogRow => {
    return { first: after + 1 + i, part: 0, parts: 1, count: 1, kind: 'mark', bytes: encoder.encode(JSON.stringify(mark)) }
  })
  return { run, fence, rows, upTo: { seq: after + 2, part: 0 }, ending: endingOf(exit, false), loss: true }
}

/**
 * A spool that ends before what was sent from it: its machine lost power. The next event, the exit at the latest, would
 * take a seq that the log has given to another one, and would be dropped as seen.
 */
export function fellShort(theirs: HeldRun, durable: Position): boolean {
  const known = durable.seq + (durable.part > 0 ? 1 : 0)
  return theirs.last < known || (theirs.state === 'exited' && theirs.last === known)
}
