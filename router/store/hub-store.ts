/**
 * The rows that a hub reads and moves, as one port: everything else about a run's row is the engine's business.
 * Each move is one compare-and-set on (state, fence); its result says who won.
 */
import type { Position } from '../core/intake.ts'
import type { EventChunk, RunRef, RunRow, Store } from '../ports.ts'
import { logEnd, readChunks } from './run-events.ts'
import { touchRunner } from './runners.ts'
import { findRun, lease, liveRunsOf, returnToQueue, type QueuedRow } from './runs.ts'

export interface HubStore {
  findRun(ref: RunRef): Promise<Pick<RunRow, 'id' | 'fence' | 'runner'> | undefined>
  /** Leased or running on this runner, as far as the database knows. */
  liveRunsOf(runner: string): Promise<Pick<RunRow, 'id' | 'fence' | 'state' | 'cancelRequestedAt' | 'timeoutS'>[]>
  logEnd(run: string): Promise<Position & { parts: number }>
  readChunks(run: string, afterSeq: number, maxBytes: number): Promise<EventChunk[]>
  lease(run: string, fence: number, cwd: string, now: number): Promise<boolean>
  returnToQueue(run: string, atFence: number, from: 'offered' | 'leased'): Promise<QueuedRow | undefined>
  touchRunner(runner: string, now: number): Promise<void>
}

export function hubStore(store: Store): HubStore {
  const { db } = store
  return {
    findRun: (ref) => findRun(db, ref.tenant, ref.run),
    liveRunsOf: (runner) => liveRunsOf(db, runner),
    logEnd: (run) => logEnd(db, run),
    readChunks: (run, afterSeq, maxBytes) => readChunks(db, run, afterSeq, maxBytes),
    lease: (run, fence, cwd, now) => lease(store, run, fence, cwd, now),
    returnToQueue: (run, atFence, from) => returnToQueue(db, run, atFence, from),
    touchRunner: (runner, now) => touchRunner(db, runner, now),
  }
}
