/**
 * Runs that are submitted together. Each of them goes through `submit`, so limits, budgets and narrowing hold for each; one
 * that is refused undoes none of the others.
 *
 * The row of the batch is written first. What had not been reached when a request was cut off is seen to be missing, and the
 * same request with the same Idempotency-Key goes on where the first one stopped.
 */
import { Fault } from '../../shared/faults.ts'
import { asFault } from '../guard/problem.ts'
import type { Claim, Deps, Principal } from '../ports.ts'
import { findBatch, insertBatch, refuseItems, runsOfBatch, type BatchRow } from '../store/batches.ts'
import { isLive } from './batch-view.ts'
import { cancelRun } from './cancel.ts'
import { usedBefore } from './claim.ts'
import { submit, type Submission } from './submit.ts'

/** Enough to hide the way to a database, and little enough that a batch does not shut everybody else out. */
const AT_ONCE = 4
const MAX_TRIES = 5
/** Of a refusal, as it is kept. */
const MAX_MESSAGE = 512
const CANCELLED = { code: 'cancelled', message: 'the batch was cancelled before it was submitted' }

export interface BatchWish {
  /** In their order; a fault is what an item is refused with. */
  readonly items: readonly (Submission | Fault)[]
  readonly metadata: Record<string, string> | undefined
}

/**
 * Resolves to the id of the batch when every item is a run or refused. Throws `idempotency`, and whatever keeps all of the
 * rest from being submitted: `storage`, `draining`; the fault then names the batch. An aborted signal leaves the rest as it is.
 */
export async function startBatch(
  deps: Deps,
  who: Principal,
  wish: BatchWish,
  options: { claim: Claim | undefined; newSessionId: () => string; signal: AbortSignal },
): Promise<string> {
  const { store, platform } = deps
  const { tenant, subject } = who
  const { claim } = options
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const used = claim && (await usedBefore(deps, tenant, claim))
    const before = used && (await findBatch(store.db, tenant, used.run))
    if (used && !before) throw new Fault('not_found', `the batch ${used.run} of this Idempotency-Key is gone`)
    const made = { id: `bat_${platform.id()}`, tenant, subject, size: wish.items.length, refused: [], metadata: wish.metadata ?? null, createdAt: platform.now() }
    if (!before && !(await insertBatch(store, made, claim))) continue
    await submitRest(deps, who, wish.items, before ?? made, options)
    return (before ?? made).id
  }
  throw new Fault('busy', 'too many requests with this Idempotency-Key at once', { retryAfterS: 2 })
}

/** Whatever of it is neither a run nor refused. */
async function submitRest(
  deps: Deps,
  who: Principal,
  items: BatchWish['items'],
  batch: BatchRow,
  { claim, newSessionId, signal }: { claim: Claim | undefined; newSessionId: () => string; signal: AbortSignal },
): Promise<void> {
  const { db } = deps.store
  const taken = await runsOfBatch(db, who.tenant, batch.id)
  const settled = new Set([...taken.map(({ index }) => index), ...batch.refused.map(({ index }) => index)])
  const rest = items.map((item, index) => ({ item, index })).filter(({ index }) => !settled.has(index))
  const turns = new Map<string, Promise<void>>()
  let stopped: { error: unknown } | undefined
  // Each has a signal of its own: whoever waits for it listens, and a hundred listeners on one would look like a leak.
  const take = async (item: Submission | Fault, index: number) => {
    const itsClaim = claim && { key: `${batch.id}/${index}`, hash: claim.hash }
    try {
      if (item instanceof Fault) throw item
      await submit(deps, who, { ...item, batch: { id: batch.id, index } }, { newSessionId: newSessionId(), claim: itsClaim, until: 'placed', signal: AbortSignal.any([signal]) })
    } catch (error) {
      const fault = asFault(error)
      if (!isVerdict(fault)) throw error
      await refuseItems(db, batch.id, [{ index, code: fault.code, message: fault.message.slice(0, MAX_MESSAGE) }])
    }
  }
  const one = async ({ item, index }: (typeof rest)[number], before: Promise<void> | undefined) => {
    await before
    if (stopped || signal.aborted) return
    await take(item, index).catch((error: unknown) => (stopped ??= { error }))
  }
  await eachOf(rest, async (next) => {
    // Turns of one session come in the order of the request.
    const session = next.item instanceof Fault ? undefined : next.item.sessionId
    const done = one(next, session === undefined ? undefined : turns.get(session))
    if (session !== undefined) turns.set(session, done)
    await done
  })
  // Before anything else is asked of a database that may be away.
  if (stopped) throw inPart(stopped.error, batch.id, claim)
  await endIfCancelled(deps, who.tenant, batch.id)
}

function inPart(error: unknown, batch: string, claim: Claim | undefined): unknown {
  const { code, message } = asFault(error)
  if (code === 'internal') return error
  // Without a key a second attempt would begin anew.
  return new Fault(code, `${message}; batch ${batch} was submitted in part`, { retryAfterS: 2, mayStart: claim === undefined, extra: { batch_id: batch } })
}

/** A "no" to this one item, which says nothing of the next. */
const isVerdict = ({ code, mayStart }: Fault): boolean => !mayStart && code !== 'storage' && code !== 'draining' && code !== 'internal'

/** Ends what of it lives, and what is not submitted yet never will be. False: there was nothing left to end. */
export async function cancelBatch(deps: Deps, row: BatchRow): Promise<boolean> {
  const { db } = deps.store
  const taken = await runsOfBatch(db, row.tenant, row.id)
  const settled = new Set(taken.map(({ index }) => index))
  const missing = Array.from({ length: row.size }, (_, index) => index).filter((index) => !settled.has(index))
  if (missing.length > 0) await refuseItems(db, row.id, missing.map((index) => ({ index, ...CANCELLED })))
  const live = taken.filter(isLive)
  await eachOf(live, async ({ id }) => void (await cancelRun(deps, { run: id, tenant: row.tenant })))
  return live.length > 0
}

/** What was being submitted while somebody cancelled the batch. */
async function endIfCancelled(deps: Deps, tenant: string, id: string): Promise<void> {
  const row = await findBatch(deps.store.db, tenant, id)
  const cancelled = new Set(row?.refused.flatMap(({ index, code }) => (code === CANCELLED.code ? [index] : [])))
  if (cancelled.size === 0) return
  const taken = await runsOfBatch(deps.store.db, tenant, id)
  await eachOf(taken.filter((run) => isLive(run) && run.index !== null && cancelled.has(run.index)), async (run) => void (await cancelRun(deps, { run: run.id, tenant })))
}

/** In order, a few at once. */
async function eachOf<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = all.values()
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const one of left) await work(one)
    }),
  )
}
