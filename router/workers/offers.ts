/**
 * Runs on their way to one runner: from an offer that nothing may start on yet to the lease, or back into the line.
 *
 * The shared row decides who may go on; before it names this runner, our own note does, so that whatever dies in between
 * leaves nothing behind that nobody takes care of. Until the lease is in our own database no go was sent.
 */
import { and, eq, lte } from 'drizzle-orm'
import { offers } from '../../drizzle/object-schema.ts'
import { runEvents, runs } from '../../drizzle/schema.ts'
import { Fault, type FaultCode } from '../../shared/faults.ts'
import { refusalOf } from '../../shared/policy.ts'
import { BACKSTOP_MS } from '../core/live-run.ts'
import type { Candidate } from '../core/placement.ts'
import { asFault } from '../guard/problem.ts'
import type { Seat } from '../hub/seat.ts'
import type { Claim, Dispatch, NewRun, OnlineRunner, RunnerIdentity, RunRow, Statement, Store } from '../ports.ts'
import { uncertain } from '../line/entry.ts'
import type { Returned } from '../line/parts.ts'
import { hubStore, restored, type HubStore } from '../store/hub-store.ts'
import { logEnd } from '../store/run-events.ts'
import { dropRefused, insertRun, lease, liveRunsOf, returnToQueue, type QueuedRow } from '../store/runs.ts'
import { answerOf, plain, type Answer, type PlainFault } from './answer.ts'
import { log } from './log.ts'
import type { PoolDO } from './pool-object.ts'

/** What the line and the Worker see of a runner. */
export type Sight = Candidate
type Outcome = { is: 'accepted' | 'taken' | 'waiting' } | { is: 'refused'; fault: PlainFault } | { is: 'full'; code: FaultCode }
export type Started = { outcome: Outcome; sight: Sight | null }

export interface OffersParts {
  readonly own: Store
  readonly shared: () => Store
  readonly pool: () => DurableObjectStub<PoolDO>
  readonly who: RunnerIdentity
  /** Resolves when what was written here is on disk. */
  readonly sync: () => Promise<void>
  /** Whoever follows this run has to look for it elsewhere. */
  readonly left: (run: string) => void
  /** Something is left that has to be tried again. */
  readonly later: () => void
}

/** An offer that is so old was forgotten by everybody. */
const FORGOTTEN_MS = 60_000
/** The line renews its interest before this is over. */
const WANTED_MS = 15_000

export class Offers {
  readonly #parts: OffersParts
  /** Offers that this process is making. */
  readonly #making = new Map<string, Promise<unknown>>()
  /** Runs that somebody wished to end while they were on their way here. */
  readonly #wishes = new Set<string>()
  /** Slots that are promised to runs whose rows are just being written. */
  #promised = 0
  #wantedUntil = 0
  #telling = false

  constructor(parts: OffersParts) {
    this.#parts = parts
  }

  async start(seat: Seat, run: NewRun, claim: Claim | undefined): Promise<Started> {
    const full = this.#isFull(seat)
    const policy = seat.online?.policy
    // Whether another one allows it is for the pool to say, and so is the rule that none does.
    const refused = policy && refusalOf(policy, run.needs) ? 'policy' : undefined
    // Who waits in line has waited longer.
    const why = full ?? refused ?? (Date.now() < this.#wantedUntil ? 'busy' : undefined)
    if (why) return { outcome: { is: 'full', code: why }, sight: this.#sight(seat) }
    const outcome = await this.#make(run.id, this.#start(seat, run, claim))
    return { outcome, sight: this.#sight(seat) }
  }

  async dispatch(seat: Seat, d: Dispatch): Promise<{ answer: Answer<void>; sight: Sight | null }> {
    const full = this.#isFull(seat)
    if (full) return { answer: { ok: false, fault: plain(new Fault(full)) }, sight: this.#sight(seat) }
    const answer = await this.#make(d.run, answerOf(this.#dispatch(seat, d)))
    return { answer, sight: this.#sight(seat) }
  }

  async answered(run: string): Promise<void> {
    await this.#making.get(run)
  }

  async giveBack(run: string, fence: number): Promise<void> {
    if (this.#making.has(run)) return
    const { shared } = this.#parts
    const row = (await returnToQueue(shared().db, run, fence, 'offered')) ?? (await this.#unleased(run, fence))
    if (row) await this.handOver(row)
    else await this.#forget(run, fence)
  }

  /** Somebody waits for its slots, or no longer does. */
  wanted(seat: Seat, by: boolean): Sight | null {
    this.#wantedUntil = by ? Date.now() + WANTED_MS : 0
    return this.#sight(seat)
  }

  /** A slot may have come free: whoever waits hears of it. */
  capacity(seat: Seat): void {
    if (this.#telling || Date.now() >= this.#wantedUntil) return
    this.#telling = true
    queueMicrotask(() => {
      this.#telling = false
      const { pool, who } = this.#parts
      pool()
        .seen({ tenant: who.tenant, pool: who.pool }, who.runner, this.#sight(seat))
        .catch((error: unknown) => log.warn({ err: error }, 'the line could not be told of a free slot; it asks again'))
    })
  }

  /** Into the line of its pool; noted until the line has it. */
  async handOver(row: QueuedRow, how: Returned = { known: true }): Promise<void> {
    const { pool, who } = this.#parts
    await this.#note(row.id, row.fence)
    try {
      await pool().enter({ tenant: who.tenant, pool: row.pool }, row, how)
      await this.#forget(row.id, row.fence)
    } catch (error) {
      log.warn({ err: error, run: row.id }, 'a run could not be put into the line; it is tried again')
      this.#parts.later()
    }
  }

  async pending(): Promise<boolean> {
    return (await this.#parts.own.db.select({ run: offers.run }).from(offers).limit(1)).length > 0
  }

  /** Somebody wishes to end it while it is being offered; the fence of that offer, if there is one. */
  async wish(run: string): Promise<number | undefined> {
    if (this.#making.has(run)) this.#wishes.add(run)
    const [row] = await this.#parts.own.db.select({ fence: offers.fence }).from(offers).where(eq(offers.run, run))
    return row?.fence
  }

  /** Offers of a process that is gone, and of callers that are. */
  async sweep(): Promise<void> {
    const { own } = this.#parts
    const left = await own.db
      .select()
      .from(offers)
      .where(lte(offers.at, Date.now() - this.#patienceMs()))
    for (const { run, fence } of left) await this.giveBack(run, fence)
  }

  /** The rows that a seat moves: shared ones while a run is under way to it, our own from the lease on. */
  hubStore(seat: () => Seat): HubStore {
    const { own, shared, sync } = this.#parts
    return {
      ...hubStore(own),
      liveRunsOf: async (runner) => {
        const rows = await liveRunsOf(own.db, runner)
        return Promise.all(rows.map(async (row) => ({ ...restored(row, await logEnd(own.db, row.id)), deadlineAt: deadlineOf(row) })))
      },
      lease: async (run, fence, home, now) => {
        const row = await lease(shared(), run, fence, home, now)
        if (!row) return false
        await this.#adopt(row)
        await sync()
        // A wish that came while it was being offered.
        if (row.cancelRequestedAt !== null) seat().cancel(run, fence)
        return true
      },
      returnToQueue: async (run, fence, from) => {
        await this.#note(run, fence)
        const row = await returnToQueue(shared().db, run, fence, from)
        await own.db.delete(runs).where(and(eq(runs.id, run), eq(runs.fence, fence)))
        this.#parts.left(run)
        return row
      },
    }
  }

  #patienceMs(): number {
    return this.#making.size === 0 ? 0 : FORGOTTEN_MS
  }

  async #start(seat: Seat, run: NewRun, claim: Claim | undefined): Promise<Outcome> {
    const { shared, who } = this.#parts
    this.#promised++
    let promised = true
    const keep = () => {
      if (promised) this.#promised--
      promised = false
    }
    try {
      await this.#note(run.id, 1)
      const isOffered = await insertRun(shared(), run, who.runner, claim)
      // Whatever came of it: a promise that is left is a slot that nobody gets until this object is gone.
      keep()
      if (!isOffered) {
        await this.#forget(run.id, 1)
        return { is: 'taken' }
      }
      await seat.dispatch({ run: run.id, fence: 1, spec: run.spec })
      return { is: 'accepted' }
    } catch (error) {
      keep()
      return await this.#refused(run.id, asFault(error))
    }
  }

  /** A full or silent runner is no verdict on the run. */
  async #refused(run: string, fault: Fault): Promise<Outcome> {
    const { shared, who } = this.#parts
    try {
      if (['busy', 'draining', 'no_runner', 'start_by'].includes(fault.code)) {
        const row = await returnToQueue(shared().db, run, 1, 'offered')
        if (row) await this.handOver(row, { known: false, ...(fault.code === 'start_by' ? { silent: who.runner } : {}) })
        else await this.#forget(run, 1)
        return { is: 'waiting' }
      }
      if (fault.code !== 'storage') {
        await dropRefused(shared(), run, 1)
        await this.#forget(run, 1)
        return { is: 'refused', fault: plain(fault) }
      }
    } catch (error) {
      log.error({ err: error, run }, 'a refused run could not be taken back; it is tried again')
    }
    this.#parts.later()
    return { is: 'refused', fault: plain(uncertain(run)) }
  }

  async #dispatch(seat: Seat, d: Dispatch): Promise<void> {
    await this.#note(d.run, d.fence)
    try {
      await seat.dispatch(d)
    } catch (error) {
      // Its row is the caller's to move, unless nobody knows whether the lease was written: then the note leads back to it.
      if (asFault(error).code !== 'storage') await this.#forget(d.run, d.fence)
      else this.#parts.later()
      throw error
    }
  }

  async #make<T>(run: string, work: Promise<T>): Promise<T> {
    this.#making.set(run, work)
    try {
      return await work
    } finally {
      this.#making.delete(run)
      this.#wishes.delete(run)
    }
  }

  #isFull(seat: Seat): 'busy' | 'draining' | 'no_runner' | undefined {
    const { online } = seat
    if (!online) return 'no_runner'
    if (online.draining) return 'draining'
    return online.busy + this.#promised >= online.slots ? 'busy' : undefined
  }

  #sight(seat: Seat): Sight | null {
    return sightOf(seat.online, this.#promised)
  }

  /** Leased by a process that died before it had the run: no go was sent. */
  async #unleased(run: string, fence: number): Promise<QueuedRow | undefined> {
    const { own, shared } = this.#parts
    const [mine] = await own.db
      .select({ id: runs.id })
      .from(runs)
      .where(and(eq(runs.id, run), eq(runs.fence, fence)))
    return mine ? undefined : returnToQueue(shared().db, run, fence, 'leased')
  }

  async #note(run: string, fence: number): Promise<void> {
    const { own, sync } = this.#parts
    const at = Date.now()
    await own.db.insert(offers).values({ run, fence, at }).onConflictDoUpdate({ target: offers.run, set: { fence, at } })
    await sync()
    this.#parts.later()
  }

  /** Only of this offer: the next one may have been noted already. */
  async #forget(run: string, fence: number): Promise<void> {
    await this.#parts.own.db.delete(offers).where(and(eq(offers.run, run), eq(offers.fence, fence)))
  }

  /** The run is ours from here on. What an earlier fence may have left of it goes. */
  async #adopt(row: RunRow): Promise<void> {
    const { db } = this.#parts.own
    if (this.#wishes.delete(row.id)) row.cancelRequestedAt ??= Date.now()
    await this.#parts.own.batch([
      db.delete(runEvents).where(eq(runEvents.run, row.id)),
      db.delete(runs).where(eq(runs.id, row.id)),
      db.insert(runs).values({ ...row, spec: null }),
      db.delete(offers).where(eq(offers.run, row.id)),
    ] as Statement[])
  }
}

export function sightOf(online: OnlineRunner | undefined, promised = 0): Sight | null {
  if (!online) return null
  const { id, pool, labels, slots, busy, draining, policy } = online
  return { id, pool, labels, slots, busy: busy + promised, draining, ...(policy ? { policy } : {}) }
}

/** On the wall clock, which outlives the object. */
function deadlineOf({ startedAt, createdAt, timeoutS }: RunRow): number {
  return (startedAt ?? createdAt) + timeoutS * 1_000 + BACKSTOP_MS
}
