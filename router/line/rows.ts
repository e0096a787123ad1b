/**
 * The rows of the line where the database says no for a reason of its own: that does not prove that nothing was kept, so
 * the row itself is asked. Each move is a compare-and-set that may be made again; whose turn it is, is the line's business.
 */
import type { Fault } from '../../shared/faults.ts'
import { spentMeanwhile } from '../limits/admission.ts'
import type { Claim, Db, NewRun, Store } from '../ports.ts'
import { dropRefused, findRun, insertRun, isCancelWanted, returnToQueue, type QueuedRow } from '../store/runs.ts'
import { uncertain, type Entry } from './entry.ts'
import type { LineParts } from './parts.ts'

const STORE_RETRY_MS = 1_000

/** Makes a move until the database takes it. `failed` hears of each attempt that it did not, and throws to give up. */
export async function untilStored<T>(move: () => Promise<T>, failed: (error: unknown) => void): Promise<T> {
  for (;;) {
    try {
      return await move()
    } catch (error) {
      failed(error)
      await new Promise((resolve) => setTimeout(resolve, STORE_RETRY_MS))
    }
  }
}

/**
 * See `insertRun`; the entry has the fence of its row from here on. One that was kept all the same is as good as any other:
 * left alone, it would begin with the next start of the router. Throws `uncertain` where nobody knows.
 */
export async function bringIn(
  { store, unsure }: LineParts,
  entry: Entry,
  run: NewRun,
  runner: string | undefined,
  claim: Claim | undefined,
): Promise<boolean> {
  entry.fence = runner === undefined ? 0 : 1
  try {
    return await insertRun(store, run, runner, claim)
  } catch (error) {
    const unknown = () => Promise.reject(Object.assign(uncertain(run.id), { cause: error }))
    if (unsure) return unknown()
    if (await findRun(store.db, run.tenant, run.id).catch(unknown)) return true
    throw error
  }
}

/**
 * What became of one of which nobody knew whether it was kept: it waits. Undefined: it was never there, and what was held
 * for it is free again, or it is somebody else's by now.
 */
export async function broughtIn(store: Store, entry: Entry): Promise<QueuedRow | undefined> {
  const row = await takeBack(store.db, entry)
  if (!row) await dropRefused(store, entry.run, entry.fence)
  return row === 'taken' ? undefined : row
}

/** Why a run that waits could not be taken: it is to end, or its budget is spent. Undefined: its session is busy. */
export async function whyNotTaken(db: Db, entry: Entry): Promise<'cancelled' | Fault | undefined> {
  return (await isCancelWanted(db, entry.run)) ? 'cancelled' : spentMeanwhile(db, entry)
}

/**
 * Back into the line, if it is only offered. `taken`: its runner has it, or had it, whatever became of the answer.
 * Undefined: it is nobody's.
 */
export async function takeBack(db: Db, { run, tenant, fence }: Entry): Promise<QueuedRow | 'taken' | undefined> {
  for (;;) {
    const waits = await returnToQueue(db, run, fence, 'offered')
    if (waits) return waits
    const row = await findRun(db, tenant, run)
    // Its runner gave it back in between.
    if (row?.state === 'queued' && row.fence === fence) continue
    return row && row.state !== 'offered' && row.state !== 'queued' ? 'taken' : undefined
  }
}

/** Leaves nothing of it behind. False: somebody knows its id, so it has to end as a run. */
export async function dropUnknown(store: Store, { run, fence, known }: Entry): Promise<boolean> {
  if (!known) await dropRefused(store, run, fence)
  return !known
}
