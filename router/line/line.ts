/**
 * The waiting line, in whichever process keeps it. It decides nothing by itself: who is next is core/queue-order, where
 * to is core/placement, and who gets a slot is the runner's own core. Every move is a compare-and-set on the run's row.
 */
import { Fault } from '../../shared/faults.ts'
import type { ExitMark } from '../../shared/marks.ts'
import type { Placed } from '../core/placement.ts'
import { queueOrder } from '../core/queue-order.ts'
import type { Claim, NewRun, Place, RunRef, WaitingLine } from '../ports.ts'
import { findRun, takeFromQueue, type QueuedRow } from '../store/runs.ts'
import { busyAmong } from '../store/turns.ts'
import { CANCELLED, endOf, entryOf, exitOf, letWait, MAX_REOFFERS, policyFault, stopping, tell, timeoutFault, uncertain, whyNot, wouldOvertake, type Entry, type Watcher } from './entry.ts'
import type { LineParts, Returned } from './parts.ts'
import { Pass } from './pass.ts'
import { Places } from './places.ts'
import { Refusals } from './refusals.ts'
import { bringIn, broughtIn, dropUnknown, takeBack, untilStored, whyNotTaken } from './rows.ts'
import { Turns } from './turns.ts'

export class Line implements WaitingLine {
  readonly #parts: LineParts
  readonly #entries = new Map<string, Entry>()
  /** Their rows are being written, or nobody knows whether they were. */
  readonly #arriving = new Map<string, Entry>()
  readonly #turns: Turns
  readonly #places = new Places()
  readonly #refusals = new Refusals()
  #kicked = false
  #closed = false
  /** A run is in the line no more, whatever became of it. */
  onLeave: (run: string) => void = () => undefined
  /** A row may be there that is not in the line: whoever keeps it should look. */
  onUnsure: () => void = () => undefined

  constructor(parts: LineParts) {
    this.#parts = parts
    this.#turns = new Turns((sessions) => busyAmong(parts.store.db, sessions))
  }

  /** How many are in it, those that are just being offered included. */
  get size(): number {
    return this.#entries.size
  }

  has(run: string): boolean {
    return this.#entries.has(run) || this.#arriving.has(run)
  }

  /** How many wait for a slot, and not for their session. */
  get waiting(): number {
    const busy = this.#busySessions()
    return this.#waiting().filter((e) => !busy.has(e.session)).length
  }

  /** After a restart: what waits, and the turns under way. */
  revive(queued: readonly QueuedRow[], turns: readonly { id: string; session: string }[]): void {
    for (const { id, session } of turns) this.#turns.begun(id, session)
    for (const row of queued) this.#add(row, true)
    this.kick()
  }

  async submit(run: NewRun, claim: Claim | undefined): Promise<'submitted' | 'taken'> {
    if (this.#closed) throw new Fault('draining')
    const entry = entryOf({ ...run, fence: 0, cancelRequestedAt: null }, false)
    const first = this.#pass().place(entry)
    // It would wait for an owner to change his mind. Who waits already does wait: a runner that allows it may come back.
    if (!first.ok && first.why === 'policy') throw policyFault(first.refusal)
    // Its time may be over before it is looked at again.
    if (!first.ok) entry.why = first.why
    this.#arriving.set(run.id, entry)
    try {
      const answer = await this.#submit(run, claim, entry, first)
      this.#arriving.delete(run.id)
      return answer
    } catch (error) {
      const isUnknown = error instanceof Fault && error.mayStart
      // Behind a network it may be written later than it is looked for: nobody can say that it was never there.
      if (isUnknown && !this.#parts.unsure) this.#parts.platform.background(this.#lookFor(entry))
      else this.#arriving.delete(run.id)
      if (isUnknown) this.onUnsure()
      throw error
    }
  }

  async #submit(run: NewRun, claim: Claim | undefined, entry: Entry, first: Placed): Promise<'submitted' | 'taken'> {
    // The usual case, in one commit: nobody is ahead and there is a slot.
    const atOnce = first.ok && !wouldOvertake(entry, this.#entries.values()) && !this.#busySessions().has(entry.session)
    const insert = (runner?: string) => bringIn(this.#parts, entry, run, runner, claim)
    if (atOnce && (await insert(first.runner))) {
      this.#entries.set(entry.run, entry)
      this.#attempt(entry, first.runner, run.spec)
      return 'submitted'
    }
    if (!(await insert())) return 'taken'
    this.#entries.set(entry.run, entry)
    this.kick()
    return 'submitted'
  }

  /** Whoever submitted it heard that nobody knows whether it is there: somebody has to find out. */
  async #lookFor(entry: Entry): Promise<void> {
    const row = await this.#untilStored(entry, () => broughtIn(this.#parts.store, entry))
    this.#arriving.delete(entry.run)
    if (row) this.comeBack(row)
  }

  outcome({ run }: RunRef, until: 'accepted' | 'placed', signal: AbortSignal): Promise<'accepted' | 'waiting' | 'unknown'> {
    const entry = this.#entries.get(run)
    const refusal = entry ? undefined : this.#refusals.find(run, this.#parts.now())
    if (refusal) return Promise.reject(refusal)
    if (!entry) return Promise.resolve('unknown')
    return new Promise((resolve, reject) => {
      const watcher: Watcher = { resolve, reject, placedIsEnough: until === 'placed' }
      entry.watchers.add(watcher)
      signal.addEventListener('abort', () => {
        entry.watchers.delete(watcher)
        resolve('waiting')
      })
    })
  }

  position({ id: run }: Place): Promise<number | undefined> {
    const entry = this.#entries.get(run)
    if (!entry) return Promise.resolve(undefined)
    // Whoever asks knows its id, so it must end as a run.
    entry.known = true
    return Promise.resolve(this.#places.of(run, () => this.#waiting(), this.#parts.now()))
  }

  async reprioritise({ id: run, tenant }: Place): Promise<void> {
    if (!this.has(run)) return
    // Two changes at once may be heard of in the other order: the row knows which was the last.
    const row = await findRun(this.#parts.store.db, tenant, run)
    const entry = this.#entries.get(run) ?? this.#arriving.get(run)
    if (!row || !entry) return
    entry.priority = row.priority
    this.#places.forget()
    this.kick()
  }

  async cancel({ run }: RunRef): Promise<boolean> {
    const entry = this.#entries.get(run)
    if (entry) entry.wished = true
    return !entry || entry.offered ? false : this.#endCancelled(entry)
  }

  close(): void {
    this.#closed = true
    for (const entry of this.#entries.values()) letWait(entry, stopping(entry.run))
    this.#entries.clear()
  }

  #add(row: QueuedRow, known: boolean): Entry {
    const entry = entryOf(row, known)
    this.#entries.set(entry.run, entry)
    if (row.cancelRequestedAt !== null) this.#parts.platform.background(this.#endCancelled(entry))
    return entry
  }

  /** A slot may have come free. */
  kick(): void {
    if (this.#kicked || this.#closed) return
    this.#kicked = true
    void this.#parts.nextTurn().then(() => {
      this.#kicked = false
      this.#placeAll()
    })
  }

  /** The session of this run is free. */
  turnOver(run: string): void {
    this.#turns.over(run)
  }

  /** Some turn is over, nobody knows whose: sessions that the database called busy are worth another look. */
  lookAgain(told = true): void {
    this.kick()
    const now = this.#parts.now()
    if (this.#turns.isDue(now, told)) this.#parts.platform.background(this.#turns.look(now).then(() => this.kick()))
  }

  #placeAll(): void {
    if (this.#closed || this.#entries.size === 0) return
    const pass = this.#pass()
    const waiting = this.#waiting()
    const busy = this.#busySessions()
    // Who is next matters only where there is something to give.
    const line = waiting.some((e) => pass.hasRoom(e.tenant)) ? queueOrder(waiting, pass.underWay) : waiting
    for (const entry of line) {
      const placed = busy.has(entry.session) ? ({ ok: false, why: 'session_busy' } as const) : pass.place(entry)
      if (!placed.ok) {
        // Whoever is behind does not get the slot that was refused to it a moment ago: it is asked for again first.
        for (const runner of entry.full) pass.hold(runner)
        entry.why = placed.why
        entry.refusal = placed.why === 'policy' ? placed.refusal : undefined
        tell(entry)
        continue
      }
      pass.give(placed.runner)
      busy.add(entry.session)
      entry.offered = true
      this.#parts.platform.background(this.#take(entry, placed.runner))
    }
  }

  #pass(): Pass {
    const pass = new Pass(this.#parts.fleet, () => this.#parts.platform.random())
    // Its slot was refused to somebody whose row is just being taken back.
    for (const { returning } of this.#entries.values()) if (returning !== undefined) pass.hold(returning)
    return pass
  }

  #waiting(): Entry[] {
    return [...this.#entries.values()].filter((e) => !e.offered)
  }

  #busySessions(): Set<string> {
    const busy = this.#turns.sessions()
    for (const entry of this.#entries.values()) if (entry.offered) busy.add(entry.session)
    return busy
  }

  async #take(entry: Entry, runner: string): Promise<void> {
    const { db } = this.#parts.store
    const spec = await this.#untilStored(entry, () => takeFromQueue(db, entry.run, entry.fence, runner))
    if (spec) entry.fence++
    // While it was on its way out of the line there was nobody else to be told of the wish.
    if (spec && !entry.wished) return this.#attempt(entry, runner, spec)
    const why = spec ? 'cancelled' : await this.#untilStored(entry, () => whyNotTaken(db, entry))
    if (why === 'cancelled') return void (await this.#endCancelled(entry))
    if (why) return this.#refuse(entry, why)
    entry.offered = false
    entry.why = 'session_busy'
    // Passed by until the next look: the slot is somebody else's meanwhile, and a disagreement with the database cannot spin.
    this.#turns.holdOff(entry.session)
    tell(entry)
    this.kick()
  }

  #attempt(entry: Entry, runner: string, spec: NewRun['spec']): void {
    entry.offered = true
    this.#parts.fleet.dispatch({ run: entry.run, tenant: entry.tenant, runner, fence: entry.fence, spec }).then(
      () => {
        this.#turns.begun(entry.run, entry.session)
        this.#accepted(entry)
      },
      (error: unknown) => this.#parts.platform.background(this.#refused(entry, runner, error)),
    )
  }

  #accepted(entry: Entry): void {
    for (const { resolve } of entry.watchers) resolve('accepted')
    this.#leave(entry)
  }

  #leave({ run }: Entry): void {
    this.#entries.delete(run)
    if (this.#entries.size === 0) this.#turns.forgetHeldOff()
    this.onLeave(run)
  }

  async #refused(entry: Entry, runner: string, error: unknown): Promise<void> {
    const fault = error instanceof Fault ? error : new Fault('internal')
    if (fault.code === 'draining' && this.#closed) return
    // A full or draining runner is no verdict on the run, and is asked again later; one that did not answer is tried no more.
    const full = fault.code === 'busy' || fault.code === 'draining' || fault.code === 'no_runner'
    entry[full ? 'full' : 'tried'].add(runner)
    if (full) entry.returning = runner
    // Whether it got its lease is for its row to say; whoever watches hears as much.
    const unknown = fault.code === 'storage'
    if (unknown) letWait(entry, uncertain(entry.run))
    if (full || unknown || (fault.code === 'start_by' && entry.attempts++ < MAX_REOFFERS)) {
      const row = await this.#untilStored(entry, () => takeBack(this.#parts.store.db, entry))
      if (row === 'taken') {
        // Its turn may be over already, and nobody say so any more: that is for the database to say.
        this.#turns.holdOff(entry.session)
        return this.#accepted(entry)
      }
      if (row && row.cancelRequestedAt !== null) return void (await this.#endCancelled(entry))
      if (row) {
        entry.offered = false
        entry.returning = undefined
        entry.why = whyNot(entry, fault)
        // What an offer needs could not be read, while writes are taken: without a pause it would go round and round.
        if (unknown) this.#turns.holdOff(entry.session)
        tell(entry)
        return this.kick()
      }
    }
    await this.#refuse(entry, fault)
  }

  /** Nothing has started. Whoever watches hears the fault; a run that is known to somebody ends as one. */
  async #refuse(entry: Entry, fault: Fault): Promise<void> {
    // Who watches while the database does not take that hears that it waits, and so its id.
    if (await this.#untilStored(entry, () => dropUnknown(this.#parts.store, entry))) {
      this.#refusals.add(entry.run, fault, this.#parts.now())
      return this.#forget(entry, fault)
    }
    await this.#end(entry, exitOf(fault), fault)
  }

  #endCancelled(entry: Entry): Promise<boolean> {
    return this.#end(entry, CANCELLED, new Fault('run_not_found', 'the run was cancelled while it waited'))
  }

  async #end(entry: Entry, exit: ExitMark, fault: Fault): Promise<boolean> {
    entry.offered = true
    const done = await this.#untilStored(entry, () => this.#parts.fleet.end(endOf(entry, exit)))
    this.#forget(entry, fault)
    return done
  }

  /** A move that the database does not take is made again until it does; nobody is kept waiting for that. */
  #untilStored<T>(entry: Entry, move: () => Promise<T>): Promise<T> {
    return untilStored(move, (error) => {
      this.#parts.log.error({ err: error, run: entry.run }, 'a move of a waiting run could not be stored')
      letWait(entry, uncertain(entry.run))
      if (this.#closed) throw error
    })
  }

  #forget(entry: Entry, fault: Fault): void {
    this.#leave(entry)
    for (const { reject } of entry.watchers) reject(fault)
    this.kick()
  }

  /** A runner that was given the go says that it never started, or one that had it offered is gone: it waits again. */
  comeBack(row: QueuedRow, { known, silent }: Returned = { known: true }): void {
    if (this.has(row.id)) return
    const entry = this.#add(row, known)
    if (silent !== undefined) entry.attempts = entry.tried.add(silent).size
    this.kick()
  }

  /** Whatever is due by now; called a few times a second while anybody waits. */
  tick(): void {
    const now = this.#parts.platform.now()
    const waiting = this.#waiting()
    for (const entry of waiting) {
      entry.full.clear()
      if (now < entry.queueUntil) continue
      entry.offered = true
      this.#parts.platform.background(this.#refuse(entry, timeoutFault(entry)))
    }
    if (waiting.length > 0) this.lookAgain(false)
  }
}
