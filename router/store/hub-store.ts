/**
 * The rows that a hub reads and moves, as one port: everything else about a run's row is the engine's business.
 * Each move is one compare-and-set on (state, fence); its result says who won.
 */
import type { Home } from '../core/effects.ts'
import type { RestoredRun } from '../core/runner-core.ts'
import type { EventChunk, RunRef, RunRow, Store } from '../ports.ts'
import { databaseReads, type LogEnd, type LogReads } from './run-events.ts'
import { findRun, lease, liveRunsOf, returnToQueue, type QueuedRow } from './runs.ts'

export interface HubStore {
  findRun(ref: RunRef): Promise<Pick<RunRow, 'id' | 'fence' | 'runner'> | undefined>
  /** Leased or running on this runner, and where their logs end. */
  liveRunsOf(runner: string): Promise<RestoredRun[]>
  readChunks(run: string, afterSeq: number, maxBytes: number): Promise<EventChunk[]>
  lease(run: string, fence: number, home: Home, now: number): Promise<boolean>
  returnToQueue(run: string, atFence: number, from: 'offered' | 'leased'): Promise<QueuedRow | undefined>
}

export function hubStore(store: Store, log: LogReads = databaseReads(store.db)): HubStore {
  const { db } = store
  return {
    findRun: (ref) => findRun(db, ref.tenant, ref.run),
    liveRunsOf: async (runner) => Promise.all((await liveRunsOf(db, runner)).map(async (row) => restored(row, await log.end(row.id)))),
    readChunks: (run, afterSeq, maxBytes) => log.chunks(run, afterSeq, maxBytes),
    lease: async (run, fence, home, now) => (await lease(store, run, fence, home, now)) !== undefined,
    returnToQueue: (run, atFence, from) => returnToQueue(db, run, atFence, from),
  }
}

/** Where its log stands, beside its row. */
export function restored(row: RunRow, { seq, part, parts }: LogEnd): RestoredRun {
  return {
    run: row.id,
    fence: row.fence,
    state: row.state === 'running' ? 'running' : 'leased',
    durable: { seq, part },
    parts,
    cancelRequested: row.cancelRequestedAt !== null,
    timeoutMs: row.timeoutS * 1_000,
  }
}
