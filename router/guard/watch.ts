/**
 * Whether somebody may still be here, asked for as long as he is: an answer that takes minutes must not outlive the token
 * that it was asked with. A revoked token is felt by every replica within 2 s (guard/registry), and asked about every
 * 5 s, so what it opened is closed well within 15 s.
 */
import { Fault } from '../../shared/faults.ts'
import type { Recheck } from './admission.ts'
import { asFault } from './problem.ts'

export const LOOK_EVERY_MS = 5_000

/** Why the visit has to end; undefined: it may go on. */
export async function whyLeave(recheck: Recheck): Promise<Fault | undefined> {
  try {
    await recheck()
    return undefined
  } catch (error) {
    const why = asFault(error)
    // A database that cannot be read has nobody revoked: that is asked again.
    return why.code === 'unauthenticated' || why.code === 'forbidden' ? why : undefined
  }
}

/** Calls `over` once when the visit has to end, unless `stop` was called before. */
export function watchVisit(recheck: Recheck, over: (why: Fault) => void): { stop(): void } {
  let timer: ReturnType<typeof setTimeout> | undefined
  let stopped = false
  const look = async () => {
    const why = await whyLeave(recheck)
    if (stopped) return
    if (why) over(why)
    else timer = setTimeout(() => void look(), LOOK_EVERY_MS)
  }
  timer = setTimeout(() => void look(), LOOK_EVERY_MS)
  return {
    stop() {
      stopped = true
      clearTimeout(timer)
    },
  }
}

/**
 * Does `work` with a signal that is aborted when the request is, or when the visit has to end: then it throws the fault,
 * whatever came of the work.
 */
export async function whileWelcome<T>(recheck: Recheck, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const over = new AbortController()
  let why: Fault | undefined
  const visit = watchVisit(recheck, (fault) => {
    why = fault
    over.abort()
  })
  try {
    const result = await work(AbortSignal.any([signal, over.signal]))
    if (!over.signal.aborted) return result
  } catch (error) {
    if (!over.signal.aborted) throw error
  } finally {
    visit.stop()
  }
  throw why ?? new Fault('unauthenticated')
}
