/** Ending a run, whoever asks: the wish is durable first, then the line or the runner hears of it. */
import type { Deps, RunRef } from '../ports.ts'
import { requestCancel } from '../store/runs.ts'

/** False: it had ended already. */
export async function cancelRun({ store, platform, line, hub }: Pick<Deps, 'store' | 'platform' | 'line' | 'hub'>, ref: RunRef): Promise<boolean> {
  if (!(await requestCancel(store.db, ref.tenant, ref.run, platform.now()))) return false
  if (!(await line.cancel(ref))) await hub.cancel(ref)
  return true
}
