/** Ends the runs of one object that nobody watches any more, when that is what they were submitted with. */
import { isTerminal } from '../core/run-state.ts'
import { Attendance } from '../hub/attendance.ts'
import type { RunRef, RunRow } from '../ports.ts'
import { requestCancel } from '../store/runs.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import { sharedStore } from './shared-store.ts'

export function attendanceOf(env: Env, runs: { row(ref: RunRef): Promise<RunRow | undefined>; cancel(ref: RunRef): Promise<void> }): Attendance {
  return new Attendance({
    patienceMs: async (ref) => {
      const row = await runs.row(ref)
      return row && !isTerminal(row.state) ? (row.onDisconnectMs ?? undefined) : undefined
    },
    abandoned: async (ref) => {
      if (await requestCancel(sharedStore(env).db, ref.tenant, ref.run, Date.now())) await runs.cancel(ref)
    },
    failed: (error) => log.error({ err: error }, 'a run that nobody watches could not be ended'),
  })
}
