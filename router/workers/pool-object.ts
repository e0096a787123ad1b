/**
 * The object of one tenant's pool: who is connected, and who waits for a slot. No event of a run passes here.
 *
 * The directory is a hint, corrected by every answer of a runner's object; the line is router/line over it, and the
 * shared database is the record of who waits. It stays awake while somebody does.
 */
import { DurableObject } from 'cloudflare:workers'
import { and, eq } from 'drizzle-orm'
import { runs } from '../../drizzle/schema.ts'
import { Fault } from '../../shared/faults.ts'
import type { Append } from '../core/runner-core.ts'
import { Wakeups } from '../hub/wakeups.ts'
import { Line } from '../line/line.ts'
import type { Returned } from '../line/parts.ts'
import type { Claim, Dispatch, NewRun, RunRef } from '../ports.ts'
import { endingStatements } from '../store/notices.ts'
import { appendStatements } from '../store/run-events.ts'
import { queuedIn, type QueuedRow } from '../store/runs.ts'
import { answerOf, valueOf, type Answer } from './answer.ts'
import type { Env } from './env.ts'
import { log } from './log.ts'
import type { Sight } from './offers.ts'
import { platform } from './platform.ts'
import { sharedStore } from './shared-store.ts'
import { waking } from './wake-outbox.ts'

/** Whose object this is: it is told with every call, and kept for the alarm. */
export type PoolName = { readonly tenant: string; readonly pool: string }

const TICK_MS = 250
/** The runners forget after 15 s that somebody waits for them. */
const WANT_MS = 5_000
/** An object that died with somebody in line is woken after this long. */
const WAKE_MS = 10_000
/** A database that is away is asked again after this long. */
const READ_MS = 2_000

export class PoolDO extends DurableObject<Env> {
  readonly #platform = platform()
  readonly #directory = new Map<string, Sight>()
  readonly #moves = new Wakeups()
  /** Runners that know that somebody waits for them. */
  readonly #wanted = new Set<string>()
  #name: PoolName | undefined
  #line: Line | undefined
  #ticker: ReturnType<typeof setInterval> | undefined
  #wantedAt = 0
  /** Work that may put somebody into the line. */
  #working = 0
  /** The database may have rows for the line that are not in it. */
  #behind = false
  #readAt = 0

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    void ctx.blockConcurrencyWhile(async () => {
      for (const [, sight] of await ctx.storage.list<Sight>({ prefix: 'runner:' })) this.#directory.set(sight.id, sight)
      this.#name = await ctx.storage.get<PoolName>('name')
    })
  }

  /** Who is connected, as far as is known here, and how many wait. */
  directory(name: PoolName): Promise<Answer<{ runners: Sight[]; waiting: number }>> {
    return answerOf(this.#open(name).then((line) => ({ runners: [...this.#directory.values()], waiting: line.waiting })))
  }

  /** A runner came, changed, or left. */
  async seen(name: PoolName, runner: string, sight: Sight | null): Promise<void> {
    await this.#see(runner, sight)
    const line = await this.#open(name)
    line.lookAgain()
    await this.#want()
  }

  submit(name: PoolName, run: NewRun, claim: Claim | undefined): Promise<Answer<'submitted' | 'taken'>> {
    return answerOf(this.#open(name).then((line) => this.#while(() => line.submit(run, claim))))
  }

  /** A run that waits again. More than once does no harm. */
  async enter(name: PoolName, row: QueuedRow, how: Returned): Promise<void> {
    const line = await this.#open(name)
    await this.#while(async () => line.comeBack(row, how))
  }

  outcome(name: PoolName, ref: RunRef, until: 'accepted' | 'placed'): Promise<Answer<'accepted' | 'waiting' | 'unknown'>> {
    return answerOf(this.#open(name).then((line) => line.outcome(ref, until, new AbortController().signal)))
  }

  position(name: PoolName, id: string): Promise<Answer<number | undefined>> {
    return answerOf(this.#open(name).then((line) => line.position({ ...name, id })))
  }

  cancel(name: PoolName, ref: RunRef): Promise<Answer<boolean>> {
    return answerOf(this.#open(name).then((line) => line.cancel(ref)))
  }

  reprioritise(name: PoolName, id: string): Promise<Answer<void>> {
    return answerOf(this.#open(name).then((line) => line.reprioritise({ ...name, id })))
  }

  /** Resolves when the run has left the line, or after a while. */
  async moved(name: PoolName, run: string, withinMs: number): Promise<void> {
    const line = await this.#open(name)
    let over = () => undefined as void
    const moved = new Promise<void>((resolve) => (over = resolve))
    const listening = this.#moves.listen(run, over)
    const timer = setTimeout(over, withinMs)
    try {
      if (line.has(run)) await moved
    } finally {
      // A timer that is left keeps the object awake.
      clearTimeout(timer)
      listening.end()
    }
  }

  /** Runs again after a kill, without being told so. */
  override async alarm(): Promise<void> {
    if (!this.#name) return
    // First, so that an attempt that fails is not the last one; the ticker takes it back when the line is empty.
    await this.ctx.storage.setAlarm(Date.now() + WAKE_MS)
    try {
      await this.#open(this.#name)
      await this.#stay()
      await this.#read()
    } catch (error) {
      log.warn({ err: error }, 'a line could not be taken up; it is tried again')
    }
  }

  /** Somebody found a row that should have moved long ago. */
  async remind(name: PoolName): Promise<void> {
    await this.#open(name)
    await this.#read()
    await this.#stay()
  }

  /** The line as the shared database has it. */
  async #open(name: PoolName): Promise<Line> {
    if (this.#line) return this.#line
    this.#name ??= { tenant: name.tenant, pool: name.pool }
    const queued = await queuedIn(sharedStore(this.env).db, name.tenant, name.pool)
    // Another call may have been faster.
    if (this.#line) return this.#line
    const line = new Line({
      store: sharedStore(this.env),
      fleet: {
        connected: () => [...this.#directory.values()],
        underWay: () => 0,
        dispatch: (d) => this.#dispatch(d),
        end: (append) => this.#end(append),
      },
      platform: this.#platform,
      log,
      now: () => Date.now(),
      nextTurn: () => new Promise((resolve) => setTimeout(resolve, 0)),
      unsure: true,
    })
    this.#line = line
    line.onUnsure = () => {
      this.#behind = true
    }
    line.onLeave = (run) => {
      this.#moves.wake(run)
      // Ends of turns are not heard of here, so the database is asked each time.
      line.turnOver(run)
    }
    line.revive(queued, [])
    this.#behind = true
    await this.#stay()
    return line
  }

  /**
   * Rows that are in the line by the database and not here, because an answer was lost or who had them died. What is only
   * offered belongs to who offers it, if he remembers.
   */
  async #read(): Promise<void> {
    const line = this.#line
    const name = this.#name
    if (!line || !name) return
    this.#readAt = Date.now()
    const { db } = sharedStore(this.env)
    try {
      const offered = await db
        .select({ run: runs.id, runner: runs.runner, fence: runs.fence })
        .from(runs)
        .where(and(eq(runs.state, 'offered'), eq(runs.tenant, name.tenant), eq(runs.pool, name.pool)))
      const forgotten = offered.filter(({ run }) => !line.has(run))
      await Promise.all(
        forgotten.map(
          async ({ run, runner, fence }) => runner !== null && this.env.RUNNER.getByName(runner).giveBack(run, fence),
        ),
      )
      for (const row of await queuedIn(db, name.tenant, name.pool)) line.comeBack(row)
      this.#behind = false
    } catch (error) {
      log.warn({ err: error }, 'the line could not be read anew; it is tried again')
      this.#behind = true
    }
  }

  async #dispatch(d: Dispatch): Promise<void> {
    const { answer, sight } = await this.env.RUNNER.getByName(d.runner)
      .dispatch(d)
      .catch((error: unknown) => {
        // Whether it was accepted is for the row to say.
        log.warn({ err: error, run: d.run }, 'the object of a runner did not answer')
        throw new Fault('no_runner', 'the runner did not answer')
      })
    await this.#see(d.runner, sight)
    valueOf(answer)
  }

  async #end(append: Append): Promise<boolean> {
    const store = sharedStore(this.env)
    const now = Date.now()
    const results = await store.batch([...endingStatements(store.db, append, now), ...appendStatements(store.db, append, now)])
    const isOver = (results.at(-1) as unknown[]).length > 0
    if (isOver && this.#name) waking(this.env, this.#platform)(this.#name.tenant)
    return isOver
  }

  async #see(runner: string, sight: Sight | null): Promise<void> {
    const before = this.#directory.get(runner)
    if (sight) this.#directory.set(runner, sight)
    else this.#directory.delete(runner)
    if (!sight) this.#wanted.delete(runner)
    // How busy it is changes all the time and is asked again after a restart; the rest is worth a write.
    const lasting = (s: Sight | null | undefined) => JSON.stringify(s ? { ...s, busy: 0 } : null)
    if (lasting(before) === lasting(sight)) return
    if (sight) await this.ctx.storage.put(`runner:${runner}`, { ...sight, busy: 0 })
    else await this.ctx.storage.delete(`runner:${runner}`)
  }

  /** Does what may put somebody into the line. */
  async #while<T>(work: () => Promise<T>): Promise<T> {
    await this.#stay()
    this.#working++
    try {
      return await work()
    } finally {
      this.#working--
    }
  }

  /** Stays awake, or is woken after a kill, for as long as the line is not empty. */
  async #stay(): Promise<void> {
    if (this.#ticker !== undefined) return
    // Kept only now: a pool that somebody merely asks about leaves nothing behind.
    await this.ctx.storage.put('name', this.#name)
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS)
    await this.ctx.storage.setAlarm(Date.now() + WAKE_MS)
  }

  #tick(): void {
    const line = this.#line
    line?.tick()
    this.#platform.background(this.#want())
    if (this.#behind && Date.now() - this.#readAt > READ_MS) this.#platform.background(this.#read())
    if (line?.size || this.#working > 0 || this.#behind) return
    clearInterval(this.#ticker)
    this.#ticker = undefined
    // Nobody waits, so there is nothing to be woken for, and for whom.
    this.#platform.background(Promise.all([this.ctx.storage.deleteAlarm(), this.ctx.storage.delete('name')]))
  }

  /** The runners tell of each free slot for as long as somebody waits, and only then. */
  async #want(): Promise<void> {
    const by = (this.#line?.waiting ?? 0) > 0
    const renew = by && Date.now() - this.#wantedAt > WANT_MS
    if (renew) this.#wantedAt = Date.now()
    const asked = by ? [...this.#directory.keys()].filter((id) => renew || !this.#wanted.has(id)) : [...this.#wanted]
    if (!by) this.#wanted.clear()
    else for (const id of asked) this.#wanted.add(id)
    await Promise.all(
      asked.map(async (id) => {
        const sight = await this.env.RUNNER.getByName(id).wanted(by)
        await this.#see(id, sight)
        if (by && sight) this.#wanted.add(id)
        if (by) this.#line?.kick()
      }),
    )
  }
}
