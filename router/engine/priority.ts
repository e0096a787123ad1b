/** Another place in the line for a run that waits: durable first, then the line hears of it. */
import type { Deps, RunRef } from '../ports.ts'
import { isTerminal } from '../core/run-state.ts'
import { findRun, movePriority } from '../store/runs.ts'

/** 1 to 10, the highest first. */
export type Reprioritised = { readonly old: number } | 'unknown' | 'running' | 'ended'

/** It was changed, from `old`; or why it was not. `unknown`: the tenant has no such run. */
export async function reprioritise({ store, line, platform }: Pick<Deps, 'store' | 'line' | 'platform'>, ref: RunRef, priority: number): Promise<Reprioritised> {
  for (;;) {
    const row = await findRun(store.db, ref.tenant, ref.run)
    if (!row) return 'unknown'
    if (isTerminal(row.state)) return 'ended'
    if (row.state !== 'queued' && row.state !== 'offered') return 'running'
    // Somebody else may have changed it, or a runner have taken it, since it was read.
    if (!(await movePriority(store.db, row, priority))) continue
    const told = line.reprioritise(row)
    // Also when whoever asked has left meanwhile.
    platform.background(told)
    await told
    return { old: row.priority }
  }
}
