/** A process of the router: the real hub and log over the ledger. What is not in the ledger ends with it. */
import type { RestoredRun } from '../../router/core/runner-core.ts'
import { Attendance, type AttendanceEvents } from '../../router/hub/attendance.ts'
import { GroupCommitLog } from '../../router/hub/event-log.ts'
import { NodeHub } from '../../router/node/hub.ts'
import type { Log, Platform } from '../../router/ports.ts'
import type { HubStore } from '../../router/store/hub-store.ts'
import type { QueuedRow } from '../../router/store/runs.ts'
import type { Fault } from '../../shared/faults.ts'
import type { RunSpec } from '../../shared/run-spec.ts'
import type { Ledger, Row } from './ledger.ts'
import type { Machine } from './runner.ts'
import type { World } from './world.ts'

export const TENANT = 'default'
const SESSION = '0190a8c4-7c1e-7000-8000-000000000001'
export const TIMEOUT_S = 3_600
const SPEC: RunSpec = { tenant: TENANT, session: { mode: 'new', id: SESSION }, prompt: 'hi', timeout_s: TIMEOUT_S }

/** A run goes on unwatched for ever. */
const NOBODY_MINDS: AttendanceEvents = {
  patienceMs: () => Promise.resolve(undefined),
  abandoned: () => Promise.resolve(),
  failed: () => undefined,
}

export class RouterProcess {
  readonly hub: NodeHub
  readonly log: Log
  readonly #ledger: Ledger
  ready = false

  constructor(world: World) {
    const { ledger, time } = world
    this.#ledger = ledger
    this.log = { info: () => undefined, warn: () => undefined, error: () => undefined }
    time.owner = this
    ledger.alive = this
    const platform: Platform = {
      now: () => time.now,
      id: () => '0'.repeat(32),
      random: () => 0,
      background: (work) => void work.catch(() => undefined),
      vitals: () => ({ uptimeS: 0, memory: { rss: 0, heapTotal: 0, heapUsed: 0, external: 0, arrayBuffers: 0 } }),
    }
    const eventLog = new GroupCommitLog((appends) => world.faults.commit(this, appends), () => new Promise((resolve) => setImmediate(resolve)))
    this.hub = new NodeHub({
      store: this.#store(world),
      eventLog,
      treasury: { grants: () => Promise.resolve(undefined), begun: () => undefined, over: () => undefined, report: () => undefined },
      config: { version: () => Promise.resolve(0), read: () => Promise.resolve({ version: 0, files: [] }) },
      platform,
      log: this.log,
      attendance: new Attendance(NOBODY_MINDS),
      accept: () => Promise.reject(new Error('no HTTP here')),
    })
  }

  /** Offers were void with the process that made them; runs that had their go are expected back. */
  async boot(machines: readonly Machine[]): Promise<void> {
    for (const row of this.#ledger.rows.values()) {
      if (row.state !== 'offered') continue
      row.state = 'queued'
      row.runner = null
    }
    for (const { who } of machines) await this.hub.expect(who)
    this.ready = true
  }

  /** Takes a run out of the queue and offers it under the next fence. */
  place(row: Row, machine: Machine): void {
    if (row.state !== 'queued') return
    row.state = 'offered'
    row.fence++
    row.runner = machine.who.runner
    const { fence } = row
    this.hub.dispatch({ run: row.id, tenant: TENANT, runner: machine.who.runner, fence, spec: SPEC }).catch((fault: Fault) => {
      if (this.#ledger.alive !== this || row.state !== 'offered' || row.fence !== fence || fault.code === 'internal') return
      row.state = 'queued'
      row.runner = null
    })
  }

  kill(kept: number): void {
    this.#ledger.forsake(kept)
    this.#ledger.alive = undefined
    this.hub.close()
  }

  #restored(row: Row): RestoredRun {
    const { seq, part, parts } = this.#ledger.end(row)
    const state = row.state === 'running' ? 'running' : 'leased'
    const cancelRequested = row.cancelRequestedAt !== null
    return { run: row.id, fence: row.fence, state, durable: { seq, part }, parts, cancelRequested, timeoutMs: TIMEOUT_S * 1_000 }
  }

  #store({ ledger, faults }: World): HubStore {
    const rowOf = (run: string) => ledger.rows.get(run)!
    const read = <T>(answer: () => T) => ledger.read(this, answer)
    return {
      findRun: ({ run }) => read(() => rowOf(run)),
      liveRunsOf: (runner) =>
        read(() =>
          [...ledger.rows.values()]
            .filter((row) => row.runner === runner && (row.state === 'leased' || row.state === 'running'))
            .map((row) => this.#restored(row)),
        ),
      readChunks: (run, after, maxBytes) => ledger.page(this, () => faults.chunks(rowOf(run), after, maxBytes)),
      lease: (run, fence) => ledger.write(this, () => move(rowOf(run), fence, 'offered', 'leased')),
      returnToQueue: (run, fence, from) =>
        ledger.write(this, () => {
          const row = rowOf(run)
          if (!move(row, fence, from, 'queued') && !move(row, fence, 'queued', 'queued')) return undefined
          row.runner = null
          return { id: run, fence } as QueuedRow
        }),
    }
  }
}

function move(row: Row, fence: number, from: Row['state'], to: Row['state']): boolean {
  if (row.fence !== fence || row.state !== from) return false
  row.state = to
  return true
}
