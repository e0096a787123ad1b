/** What a seat is put together of, so that hosts can say how theirs differ. */
import type { ToRunner } from '../../shared/frames.ts'
import type { Append } from '../core/runner-core.ts'
import type { Log, Platform, Treasury } from '../ports.ts'
import type { HubStore } from '../store/hub-store.ts'
import type { QueuedRow } from '../store/runs.ts'
import type { ConfigSource, ConfigStanding } from './config-sync.ts'
import type { GroupCommitLog } from './event-log.ts'
import type { Seat } from './seat.ts'

/** A connection as a seat uses it. */
export interface RunnerSocket {
  readonly conn: number
  send(message: ToRunner): void
  close(code: number, reason: string): void
  /** Called now and then, for what nothing else would notice. `now`: on the clock of the seat. */
  tick(now: number): void
}

export interface SeatEvents {
  /** A slot may have come free. */
  capacity(): void
  /** The run's turn is over, here at least: its session is free. */
  turnOver(run: string): void
  /** A run that had its go never started, and waits again. */
  requeued(row: QueuedRow): void
  /** It connected, left, or takes no new runs from now on. */
  presence(seat: Seat): void
  /** What was sent of the config files of its pool, for a host that may forget its seat and keep its socket. */
  readonly configStands?: ((standing: ConfigStanding) => void) | undefined
}

/** The same for all seats of a host, as it may have thousands. */
export interface SeatParts {
  readonly store: HubStore
  readonly eventLog: GroupCommitLog
  readonly treasury: Treasury
  readonly config: ConfigSource
  readonly platform: Platform
  readonly log: Log
  /** What is on disk now, in the order of the commits, for a host whose subscribers need not read it there. */
  readonly durable?: ((append: Append) => void) | undefined
  /** Tells the subscribers of a run that there is something to read. */
  readonly wake: (run: string) => void
  /** Milliseconds on a clock that leases and silences are measured on. */
  readonly now: () => number
  readonly on: SeatEvents
}
