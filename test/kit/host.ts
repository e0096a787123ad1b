/**
 * What the contract suite asks of a host. A host decides how it is started, stopped and broken; what it answers in
 * between is the same on all of them, and where it is not, the difference has a name and a reason here.
 */
import type { Keys } from '../../router/guard/keys.ts'

export interface Host<Opened extends OpenHost = OpenHost, Options extends HostOptions = HostOptions> {
  readonly name: 'node' | 'workers'
  readonly can: Differences
  /** Empty storage, a free port of 127.0.0.1; resolves when it listens. */
  open(options: Options): Promise<Opened>
}

export interface HostOptions {
  readonly publicUrl?: string
  readonly allowedHosts?: readonly string[]
  readonly corsOrigins?: readonly string[]
  /** A subscriber that takes nothing for so long is let go. */
  readonly blockedMs?: number
  /** What is kept of runs that have ended. */
  readonly keep?: { readonly ageMs: number; readonly bytes: number }
}

export interface OpenHost {
  /** Without a slash at its end; the same after a restart. */
  readonly url: string
  /** The host's own: what they sign, no caller could. */
  readonly keys: Keys
  /** Ends it and starts it anew on the same storage and port. */
  restart(): Promise<void>
  /** Throws a runner that has no live run out of memory: its socket stays open, or is cut. Where the host `forcesEviction`. */
  evictRunner?(id: string, how: 'hibernate' | 'close'): Promise<void>
  /** Breaks everything that is in memory, in the middle of what it does. Where the host `forcesEviction`. */
  abortObjects?(): Promise<void>
  /** Has it throw away at once what it need not keep any more. */
  prune(): Promise<void>
  /** Nothing of it is left, on disk either. */
  close(): Promise<void>
}

export interface Differences {
  /** Node is asked to stop and answers who waits; a Worker is not asked, so its connections are just cut. */
  readonly endsWaitingRequestsOnRestart: boolean
  /** Node sees the socket close; a Worker may hear of a client that left only when it writes to it the next time. */
  readonly seesClientLeaveWithinMs: number
  /** workerd looks at a connection only when it writes to it: nobody tells a Worker that has not begun to answer. */
  readonly seesWaitingClientLeave: boolean
  /** Only where something else than us decides what stays in memory. */
  readonly forcesEviction: boolean
  /** `Upgrade` is a header of the connection (RFC 9110 §7.6.1): workerd drops ours from a 426, whose body says the same. */
  readonly sendsUpgradeHeader: boolean
  /** What an `Upgrade` to something else than WebSocket gets: Node must refuse it, others may overlook it (RFC 9110 §7.8). */
  readonly foreignUpgradeStatus: 426 | 200
}
