/** The processes of a tenant that are at work on its machines: one per run that holds a slot. */
import type { Deps } from '../ports.ts'
import { runsUnderWay } from '../store/processes.ts'

/** More slots than this nobody looks at in a list. */
const MAX_SHOWN = 1_000

/** `startedAt`: milliseconds since 1970, of its lease. */
export interface Process {
  readonly run: string
  readonly session: string
  readonly runner: string | null
  /** The real directory that it works in. */
  readonly cwd: string | null
  readonly model: string | null
  readonly provider: string | null
  readonly origin: string
  readonly startedAt: number | null
}

/** The oldest first. */
export async function processesOf({ store }: Pick<Deps, 'store'>, tenant: string): Promise<Process[]> {
  const rows = await runsUnderWay(store.db, tenant, MAX_SHOWN)
  return rows.map(({ id, session, runner, cwd, model, provider, origin, startedAt }) => ({ run: id, session, runner, cwd, model, provider, origin, startedAt }))
}
